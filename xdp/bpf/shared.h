/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Shared mode: what is registered goes to a worker, all else to the kernel.
 *
 *   flow exception           -> its worker
 *   listener (address, port) -> owner of the flow       TCP and UDP, whole datagrams only
 *   registered address       -> owner of the flow       any IP protocol, fragments, extension headers
 *   registered EtherType     -> owner of the flow inside
 *   ARP, ND about or to it   -> worker 0
 *
 * VLAN tags are stepped over: a listener gets tagged and untagged traffic alike, tags in place.
 */
#ifndef TAILWATER_SHARED_H
#define TAILWATER_SHARED_H

#include "leave.h"

static __always_inline bool has_listener(const __u64 *addr, __be16 l4_port, __u8 proto, __u8 family)
{
	struct listener key = { .port = l4_port, .proto = proto, .family = family };

	if (addr) {
		key.addr[0] = addr[0];
		key.addr[1] = addr[1];
	}
	return bpf_map_lookup_elem(&listeners, &key);
}

static __always_inline bool listens(const struct flow *flow)
{
	return has_listener(flow->dst, flow->dport, flow->proto, flow->family) ||
	       has_listener(NULL, flow->dport, flow->proto, flow->family);
}

static __always_inline struct decision shared_arp(const struct packet *pkt)
{
	if (has_listener(pkt->target, 0, 0, pkt->flow.family))
		return worker(0, REDIRECT_NEIGHBOUR);
	return kernel(PASS_NOT_IP);
}

static __always_inline struct decision shared_ip(const struct packet *pkt, const struct settings *cfg)
{
	const struct flow *flow = &pkt->flow;
	bool has_ports = (flow->proto == IPPROTO_TCP || flow->proto == IPPROTO_UDP) && !pkt->fragment;
	__u32 *exception = has_ports ? flow_exception(pkt, cfg) : NULL;

	if (exception)
		return worker(existing_worker(*exception), REDIRECT_EXCEPTION);
	if (has_ports && listens(flow))
		return worker(worker_of_flow(flow, cfg), REDIRECT_LISTENER);
	if (pkt->neighbour && has_listener(pkt->target, 0, 0, flow->family))
		return worker(0, REDIRECT_NEIGHBOUR);
	if (has_listener(flow->dst, 0, 0, flow->family)) {
		/* The answer to a question of ours is about another station. */
		if (pkt->neighbour)
			return worker(0, REDIRECT_NEIGHBOUR);
		return worker(worker_of_flow(flow, cfg), REDIRECT_ADDRESS);
	}
	if (pkt->fragment)
		return kernel(PASS_FRAGMENT);
	if (pkt->extension)
		return kernel(PASS_EXTENSION);
	return kernel(PASS_UNREGISTERED);
}

static __always_inline struct decision steer_shared(const struct ethhdr *eth, const struct packet *pkt,
					enum parsed parsed, const struct settings *cfg)
{
	switch (parsed) {
	case PARSED_NOT_IP:
		return kernel(PASS_NOT_IP);
	case PARSED_TRUNCATED:
		return kernel(PASS_TRUNCATED);
	case PARSED_MALFORMED:
		return kernel(PASS_MALFORMED);
	case PARSED_ARP:
	case PARSED_ENCAPSULATED:
	case PARSED_IP:
		break;
	}
	if (pkt->tags && !port.steer_vlan)
		return kernel(PASS_VLAN);
	if (!is_group_mac(eth) && !is_own_mac(eth))
		return kernel(PASS_FOREIGN_MAC);
	if (parsed == PARSED_ARP)
		return shared_arp(pkt);
	if (parsed == PARSED_ENCAPSULATED)
		return encapsulated(pkt, cfg);
	return shared_ip(pkt, cfg);
}

#endif
