/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Router mode: transit unicast addressed to our MAC is ours, everything else is the kernel's.
 *
 *   our MAC, destination not local and of global scope -> owner of the flow (TTL <= 1, options, fragments too)
 *   our MAC, registered EtherType                        -> owner of the flow inside
 *   ARP, ND, own addresses, groups, link-local          -> kernel
 *
 * With place_xdp, untagged transit is forwarded right here with the kernel's FIB (forward.h), and comes up
 * only where that cannot be done. Tagged frames always come up: the FIB knows them under another interface.
 */
#ifndef TAILWATER_ROUTER_H
#define TAILWATER_ROUTER_H

#include "leave.h"

/* RFC 1812 §5.3.7, RFC 3927 §7, RFC 4291 §2.5: loopback, link-local, multicast and limited broadcast are
 * never forwarded. */
static __always_inline bool ip4_stays_on_link(__be32 addr)
{
	__u32 host = bpf_ntohl(addr);

	return host >= 0xe0000000 || host >> 16 == 0xa9fe || host >> 24 == 127 || host >> 24 == 0;
}

static __always_inline bool ip6_stays_on_link(const __u64 *addr)
{
	__u64 high = bpf_be64_to_cpu(addr[0]);

	/* ff00::/8, fe80::/10, ::/64 (loopback, unspecified, embedded IPv4) */
	return high >> 56 == 0xff || high >> 54 == 0xfe80 >> 6 || high == 0;
}

static __always_inline bool stays_on_link(const struct flow *flow)
{
	if (flow->family == FAMILY_IP4)
		return ip4_stays_on_link((__u32)flow->dst[0]) || (__u32)flow->src[0] == 0;
	return ip6_stays_on_link(flow->dst) || ip6_stays_on_link(flow->src);
}

static __always_inline bool is_local(const struct flow *flow)
{
	struct local_addr key = { .addr = { flow->dst[0], flow->dst[1] }, .family = flow->family };

	return bpf_map_lookup_elem(&local_addrs, &key);
}

/* `why` is REDIRECT_TRANSIT, or the reason for which the kernel placement gave the frame up. */
static __always_inline struct decision steer_router(const struct ethhdr *eth, const struct packet *pkt,
					enum parsed parsed, const struct settings *cfg, enum verdict why)
{
	switch (parsed) {
	case PARSED_NOT_IP:
	case PARSED_ARP:
		return kernel(PASS_NOT_IP);
	case PARSED_TRUNCATED:
		return kernel(PASS_TRUNCATED);
	case PARSED_MALFORMED:
		return kernel(PASS_MALFORMED);
	case PARSED_ENCAPSULATED:
	case PARSED_IP:
		break;
	}
	if (pkt->tags && !port.steer_vlan)
		return kernel(PASS_VLAN);
	if (is_group_mac(eth))
		return kernel(PASS_GROUP_MAC);
	if (!is_own_mac(eth))
		return kernel(PASS_FOREIGN_MAC);
	if (parsed == PARSED_ENCAPSULATED)
		return encapsulated(pkt, cfg);
	if (stays_on_link(&pkt->flow))
		return kernel(PASS_SCOPE);
	if (is_local(&pkt->flow))
		return kernel(PASS_LOCAL);
	return owner(pkt, cfg, why);
}

#endif
