/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Exclusive mode: every frame is ours.
 *
 *   IP                      -> owner of the flow (fragments and extension headers: by addresses)
 *   registered EtherType    -> owner of the flow inside
 *   ARP, ND                 -> worker 0
 *   anything not understood -> worker 0
 *
 * VLAN tags are stepped over and stay in place.
 */
#ifndef TAILWATER_EXCLUSIVE_H
#define TAILWATER_EXCLUSIVE_H

#include "leave.h"

static __always_inline struct decision steer_exclusive(const struct packet *pkt, enum parsed parsed,
					   const struct settings *cfg)
{
	if (parsed == PARSED_ARP || pkt->neighbour)
		return worker(0, REDIRECT_NEIGHBOUR);
	if (parsed == PARSED_ENCAPSULATED)
		return encapsulated(pkt, cfg);
	if (parsed != PARSED_IP)
		return worker(0, REDIRECT_SLOW_PATH);
	return owner(pkt, cfg, REDIRECT_FLOW);
}

#endif
