// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The steering program. One object per interface, its constants (`port`) set before loading.
//
//   frame -> [forward] -> parse_frame -> steer_<mode> -> carry_out -> AF_XDP socket, kernel or nowhere
//
// Every path ends in one counted verdict (verdict.h). The answer to every surprise is XDP_PASS, except in
// exclusive mode, where worker 0 gets it.

#include "types.h"
#include "verdict.h"
#include "maps.h"
#include "hash.h"
#include "parse.h"
#include "leave.h"
#include "shared.h"
#include "exclusive.h"
#include "router.h"
#include "forward.h"

static __always_inline int bypassed(struct xdp_md *ctx, __u32 bypass)
{
	if (bypass == BYPASS_DROP)
		return leave(ctx, DROP_BYPASS, XDP_DROP);
	return leave(ctx, PASS_BYPASS, XDP_PASS);
}

/* A frame without even an Ethernet header. */
static __always_inline int runt(struct xdp_md *ctx)
{
	if (port.mode == MODE_EXCLUSIVE)
		return to_worker(ctx, 0, REDIRECT_SLOW_PATH);
	return leave(ctx, PASS_TRUNCATED, XDP_PASS);
}

static __always_inline struct decision steer_mode(const struct ethhdr *eth, const struct packet *pkt,
						  enum parsed parsed, const struct settings *cfg,
						  enum verdict why)
{
	if (port.mode == MODE_ROUTER)
		return steer_router(eth, pkt, parsed, cfg, why);
	if (port.mode == MODE_EXCLUSIVE)
		return steer_exclusive(pkt, parsed, cfg);
	return steer_shared(eth, pkt, parsed, cfg);
}

static __always_inline int steer_parsed(struct xdp_md *ctx, struct ethhdr *eth, void *end,
					const struct settings *cfg, enum verdict why)
{
	struct packet pkt = {};
	enum parsed parsed = parse_frame(&pkt, eth, end, cfg);

	return carry_out(ctx, steer_mode(eth, &pkt, parsed, cfg, why));
}

static __always_inline int steer_frame(struct xdp_md *ctx, void *ports)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	enum verdict why = REDIRECT_TRANSIT;
	struct settings *cfg;
	__u32 zero = 0;

	cfg = bpf_map_lookup_elem(&settings, &zero);
	if (!cfg)
		return XDP_PASS;
	if (*(volatile __u32 *)&cfg->bypass)
		return bypassed(ctx, cfg->bypass);
	if ((void *)(eth + 1) > end)
		return runt(ctx);
	if (port.mode == MODE_ROUTER && port.place_xdp) {
		why = forward(ctx, eth, end, ports);
		if (why == TX_FORWARDED)
			return leave(ctx, TX_FORWARDED, XDP_REDIRECT);
	}
	return steer_parsed(ctx, eth, end, cfg, why);
}

/* The usual program: also accepts frames in several fragments (MTU above one page). */
SEC("xdp.frags")
int steer(struct xdp_md *ctx)
{
	return steer_frame(ctx, &tx_ports);
}

/* For drivers which refuse programs that declare fragments. */
SEC("xdp")
int steer_linear(struct xdp_md *ctx)
{
	return steer_frame(ctx, &tx_ports_linear);
}

/* For the test that holds this hash and the Rust one together: answers the hash instead of an action.
 * The frame is nothing but a struct flow. Never attached. */
SEC("xdp")
int hash_probe(struct xdp_md *ctx)
{
	struct flow *flow = (void *)(long)ctx->data;
	struct settings *cfg;
	__u32 zero = 0;

	cfg = bpf_map_lookup_elem(&settings, &zero);
	if (!cfg || (void *)(flow + 1) > (void *)(long)ctx->data_end)
		return 0;
	return flow_hash(flow, cfg->hash_key);
}

/* Keeps the enum in the object's type information, where a test compares it with the Rust one. */
const volatile enum verdict verdict_type = VERDICT_COUNT;

char LICENSE[] SEC("license") = "Dual MIT/GPL";
