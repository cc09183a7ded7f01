/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Every way a frame can leave the program, with its name. src/verdict.rs has the same list in the same
 * order (a test compares both through BTF) and says what each one means.
 */
#ifndef TAILWATER_VERDICT_H
#define TAILWATER_VERDICT_H

enum verdict {
	/* to a worker */
	REDIRECT_LISTENER,
	REDIRECT_ADDRESS,
	REDIRECT_EXCEPTION,
	REDIRECT_FLOW,
	REDIRECT_NEIGHBOUR,
	REDIRECT_SLOW_PATH,
	REDIRECT_TRANSIT,
	REDIRECT_ENCAPSULATED,
	/* to a worker, because the kernel placement could not forward it */
	UP_TTL,
	UP_OPTIONS,
	UP_TOO_BIG,
	UP_NO_NEIGHBOUR,
	UP_UNREACHABLE,
	UP_NOT_FORWARDED,
	UP_FORWARDING_OFF,
	UP_EGRESS_UNMANAGED,
	UP_TAGGED,
	UP_FIB_ERROR,
	/* out of another port, in the kernel */
	TX_FORWARDED,
	/* to the kernel's own stack */
	PASS_UNREGISTERED,
	PASS_LOCAL,
	PASS_FOREIGN_MAC,
	PASS_GROUP_MAC,
	PASS_SCOPE,
	PASS_NOT_IP,
	PASS_FRAGMENT,
	PASS_EXTENSION,
	PASS_TRUNCATED,
	PASS_MALFORMED,
	PASS_VLAN,
	PASS_NO_SOCKET,
	PASS_BYPASS,
	/* nowhere */
	DROP_RING_FULL,
	DROP_NO_SOCKET,
	DROP_BYPASS,
	VERDICT_COUNT,
};

#endif
