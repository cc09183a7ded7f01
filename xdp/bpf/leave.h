/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The ways out of the program: to a worker's socket, to the kernel, to nowhere. Each counts its verdict.
 */
#ifndef TAILWATER_LEAVE_H
#define TAILWATER_LEAVE_H

#include <linux/if_ether.h>
#include "hash.h"
#include "maps.h"
#include "parse.h"

const volatile struct port port = {};

static __always_inline void count(struct xdp_md *ctx, enum verdict verdict)
{
	__u32 key = verdict;
	struct tally *tally = bpf_map_lookup_elem(&verdicts, &key);

	if (!tally)
		return;
	tally->packets++;
	tally->bytes += port.frags ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;
}

static __always_inline int leave(struct xdp_md *ctx, enum verdict verdict, int action)
{
	count(ctx, verdict);
	return action;
}

/* What the mode decided about a frame: a worker's socket (verdict < TX_FORWARDED, then `worker` counts) or the
 * kernel (PASS_*). One place then carries it out, so that the code for it exists once. */
struct decision {
	enum verdict verdict;
	__u32 worker;
};

static __always_inline struct decision worker(__u32 number, enum verdict verdict)
{
	return (struct decision){ .verdict = verdict, .worker = number };
}

static __always_inline struct decision kernel(enum verdict verdict)
{
	return (struct decision){ .verdict = verdict };
}

/* Whether a worker's receive ring is full.
 *
 * `sent` is counted here, `taken` by the worker, whose line is read only where the ring would be full by what
 * was seen of it before: at each frame it would cost a miss. A frame the kernel loses after it was counted
 * makes `sent` run ahead; the worker heals that by setting taken = sent whenever it finds its ring empty.
 * It may do so while a frame is still on its way, and so get ahead itself: hence the signed comparison. */
static __always_inline bool is_full(struct ring_state *ring)
{
	__u32 capacity = *(volatile __u32 *)&ring->capacity;

	if (!capacity || (__s32)(ring->sent - ring->seen) < (__s32)capacity)
		return false;
	ring->seen = *(volatile __u32 *)&ring->taken;
	return (__s32)(ring->sent - ring->seen) >= (__s32)capacity;
}

/* To the socket of one worker, unless its ring is known to be full: then dropping here saves the copy. */
static __always_inline int to_worker(struct xdp_md *ctx, __u32 number, enum verdict verdict)
{
	__u32 slot = ctx->rx_queue_index * port.workers + number;
	struct ring_state *ring = bpf_map_lookup_elem(&ring_states, &slot);
	int fallback = port.mode == MODE_EXCLUSIVE ? XDP_DROP : XDP_PASS;
	int action;

	if (ring && is_full(ring))
		return leave(ctx, DROP_RING_FULL, XDP_DROP);
	action = bpf_redirect_map(&xsks, slot, fallback);
	if (action != XDP_REDIRECT)
		return leave(ctx, port.mode == MODE_EXCLUSIVE ? DROP_NO_SOCKET : PASS_NO_SOCKET, action);
	if (ring)
		ring->sent++;
	return leave(ctx, verdict, action);
}

/* A worker number from a map is checked: one too high would name another queue's socket. */
static __always_inline __u32 existing_worker(__u32 number)
{
	return number < port.workers ? number : 0;
}

static __always_inline __u32 worker_of_flow(const struct flow *flow, const struct settings *cfg)
{
	/* Known when the program is loaded: the verifier then leaves the hash out. */
	if (port.workers == 1)
		return 0;
	return existing_worker(cfg->indirection[flow_hash(flow, cfg->hash_key) % INDIRECTION_LEN]);
}

/* The flow exception of this packet, or null. Costs one load while there is none. */
static __always_inline __u32 *flow_exception(const struct packet *pkt, const struct settings *cfg)
{
	if (!*(volatile __u32 *)&cfg->flow_exceptions_active)
		return NULL;
	return bpf_map_lookup_elem(&flow_exceptions, &pkt->flow);
}

/* To the worker which owns the flow. */
static __always_inline struct decision owner(const struct packet *pkt, const struct settings *cfg,
					     enum verdict verdict)
{
	__u32 *exception = flow_exception(pkt, cfg);

	if (exception)
		return worker(existing_worker(*exception), REDIRECT_EXCEPTION);
	return worker(worker_of_flow(&pkt->flow, cfg), verdict);
}

/* To the worker that the sender's flow hash names: the frames of one flow keep their order, whatever hides them. */
static __always_inline struct decision encapsulated(const struct packet *pkt, const struct settings *cfg)
{
	return worker(existing_worker(cfg->indirection[pkt->flow_bits % INDIRECTION_LEN]), REDIRECT_ENCAPSULATED);
}

static __always_inline int carry_out(struct xdp_md *ctx, struct decision decision)
{
	if (decision.verdict < TX_FORWARDED)
		return to_worker(ctx, decision.worker, decision.verdict);
	return leave(ctx, decision.verdict, XDP_PASS);
}

static __always_inline bool is_group_mac(const struct ethhdr *eth)
{
	return eth->h_dest[0] & 1;
}

static __always_inline bool is_own_mac(const struct ethhdr *eth)
{
	const void *mac = eth;

	return *(const __u32 *)mac == *(const volatile __u32 *)port.mac &&
	       *(const __u16 *)(mac + 4) == *(const volatile __u16 *)(port.mac + 4);
}

#endif
