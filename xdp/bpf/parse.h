/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Headers, one function each. A header that does not lie wholly in the linear part of the frame counts as
 * truncated. IPv6 extension headers are recognised, not walked.
 */
#ifndef TAILWATER_PARSE_H
#define TAILWATER_PARSE_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/in.h>
#include "types.h"

#define VLAN_TAGS_MAX 2
#define ARP_ETHERNET 1 /* IANA hardware type */
#define IP_FRAGMENT_BITS bpf_htons(0x3fff) /* more fragments, or an offset */

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136

/* `struct ethhdr` is packed, so its fields would be read and written byte by byte. */
static __always_inline __be16 ethertype(const struct ethhdr *eth)
{
	const void *at = eth;

	return *(const __be16 *)(at + 2 * ETH_ALEN);
}

enum parsed {
	PARSED_IP,
	PARSED_ARP,
	PARSED_ENCAPSULATED, /* a registered EtherType with our header */
	PARSED_NOT_IP,
	PARSED_TRUNCATED,
	PARSED_MALFORMED,
};

struct packet {
	struct flow flow;
	__u64 target[2];   /* ARP, neighbour solicitation and advertisement: the address in question */
	__u16 flow_bits;   /* encapsulated: low bits of the flow hash, written by the sender */
	__u8 tags;         /* VLAN tags in front of the network header */
	bool fragment;     /* one of several */
	bool extension;    /* IPv6 extension headers in front of the transport header */
	bool neighbour;    /* ND: target is valid */
};

struct vlan_header {
	__be16 tci;
	__be16 next;
};

struct ports {
	__be16 source;
	__be16 dest;
};

struct arp_ip4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__u8 target_ip[4];
};

struct nd_header {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__u32 target[4];
};

static __always_inline enum parsed parse_ports(struct packet *pkt, void *l4, void *end)
{
	struct ports *ports = l4;

	if ((void *)(ports + 1) > end)
		return PARSED_TRUNCATED;
	pkt->flow.sport = ports->source;
	pkt->flow.dport = ports->dest;
	return PARSED_IP;
}

/* RFC 4861 §4.3, §4.4: the target address follows 8 octets of ICMPv6 header. */
static __always_inline enum parsed parse_icmp6(struct packet *pkt, void *l4, void *end)
{
	struct nd_header *nd = l4;

	if ((void *)&nd->target > end)
		return PARSED_TRUNCATED;
	if (nd->type != ND_SOLICITATION && nd->type != ND_ADVERTISEMENT)
		return PARSED_IP;
	if ((void *)(nd + 1) > end)
		return PARSED_TRUNCATED;
	pkt->neighbour = true;
	pkt->target[0] = nd->target[0] | (__u64)nd->target[1] << 32;
	pkt->target[1] = nd->target[2] | (__u64)nd->target[3] << 32;
	return PARSED_IP;
}

/* RFC 791 §3.1. */
static __always_inline enum parsed parse_ip4(struct packet *pkt, void *l3, void *end)
{
	struct iphdr *ip = l3;
	__u32 header_len;

	if ((void *)(ip + 1) > end)
		return PARSED_TRUNCATED;
	header_len = ip->ihl * 4;
	if (ip->version != 4 || header_len < sizeof(*ip) || bpf_ntohs(ip->tot_len) < header_len)
		return PARSED_MALFORMED;
	pkt->flow.family = FAMILY_IP4;
	pkt->flow.src[0] = ip->saddr;
	pkt->flow.dst[0] = ip->daddr;
	pkt->flow.proto = ip->protocol;
	pkt->fragment = ip->frag_off & IP_FRAGMENT_BITS;
	if (pkt->fragment || (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP))
		return PARSED_IP;
	return parse_ports(pkt, l3 + header_len, end);
}

static __always_inline bool is_extension(__u8 next)
{
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
	case IPPROTO_MH:
	case 139: /* host identity protocol */
	case 140: /* shim6 */
		return true;
	}
	return false;
}

/* RFC 8200 §3. */
static __always_inline enum parsed parse_ip6(struct packet *pkt, void *l3, void *end)
{
	struct ipv6hdr *ip = l3;

	if ((void *)(ip + 1) > end)
		return PARSED_TRUNCATED;
	if (ip->version != 6)
		return PARSED_MALFORMED;
	pkt->flow.family = FAMILY_IP6;
	__builtin_memcpy(pkt->flow.src, &ip->saddr, 16);
	__builtin_memcpy(pkt->flow.dst, &ip->daddr, 16);
	pkt->flow.proto = ip->nexthdr;
	pkt->fragment = ip->nexthdr == IPPROTO_FRAGMENT;
	pkt->extension = is_extension(ip->nexthdr);
	if (ip->nexthdr == IPPROTO_TCP || ip->nexthdr == IPPROTO_UDP)
		return parse_ports(pkt, ip + 1, end);
	if (ip->nexthdr == IPPROTO_ICMPV6)
		return parse_icmp6(pkt, ip + 1, end);
	return PARSED_IP;
}

/* RFC 826, for Ethernet and IPv4. */
static __always_inline enum parsed parse_arp(struct packet *pkt, void *l3, void *end)
{
	struct arp_ip4 *arp = l3;

	if ((void *)(arp + 1) > end)
		return PARSED_TRUNCATED;
	if (arp->hardware != bpf_htons(ARP_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->hardware_len != 6 || arp->protocol_len != 4)
		return PARSED_NOT_IP;
	pkt->flow.family = FAMILY_IP4;
	pkt->target[0] = *(__u32 *)arp->target_ip;
	return PARSED_ARP;
}

/* What dataplane/src/blocks/wrap/mod.rs writes behind the EtherType of each encapsulation. */
#define ENCAPSULATION_SUBTYPE 0x77

struct encapsulation {
	__u8 subtype;
	__u8 version;
	__be16 flow_bits;
};

static __always_inline bool is_registered(__be16 type, const struct settings *cfg)
{
	const volatile __be16 *types = cfg->ethertypes;

	return type && (type == types[0] || type == types[1] || type == types[2] || type == types[3]);
}

/* IEEE 802 §9.2.4: others may use a local experimental EtherType, too, so the subtype must be ours. */
static __always_inline enum parsed parse_other(struct packet *pkt, __be16 type, void *l3, void *end,
					       const struct settings *cfg)
{
	struct encapsulation *header = l3;

	if (!is_registered(type, cfg) || (void *)(header + 1) > end || header->subtype != ENCAPSULATION_SUBTYPE)
		return PARSED_NOT_IP;
	pkt->flow_bits = bpf_ntohs(header->flow_bits);
	return PARSED_ENCAPSULATED;
}

static __always_inline bool is_vlan(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* IEEE 802.3 and 802.1Q. The caller has checked that the Ethernet header is there. */
static __always_inline enum parsed parse_frame(struct packet *pkt, struct ethhdr *eth, void *end,
					       const struct settings *cfg)
{
	void *l3 = eth + 1;
	__be16 type = ethertype(eth);

#pragma unroll
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_header *tag = l3;

		if (!is_vlan(type))
			break;
		if ((void *)(tag + 1) > end)
			return PARSED_TRUNCATED;
		type = tag->next;
		l3 = tag + 1;
		pkt->tags++;
	}
	if (type == bpf_htons(ETH_P_IP))
		return parse_ip4(pkt, l3, end);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ip6(pkt, l3, end);
	if (type == bpf_htons(ETH_P_ARP))
		return parse_arp(pkt, l3, end);
	return parse_other(pkt, type, l3, end, cfg);
}

#endif
