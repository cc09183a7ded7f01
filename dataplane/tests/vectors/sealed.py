#!/usr/bin/env python3
"""Writes the frames that `sealed_frames_are_those_of_another_implementation` compares with (dataplane/src/blocks/wrap/
sealer.rs describes them). Needs the module `cryptography`; HKDF is written out, so nothing is shared with our code."""

import hashlib
import hmac
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KEY, SESSION = bytes(range(32)), b"a session"
SENDER, COUNTER, FLOW_BITS = 0x0123456789ABCDEF, 1 << 32, b"\xab\xcd"
ADDRESSES = b"\x11" * 6 + b"\x22" * 6
TEXT = b"\x08\x00what the frame carries"


def expand(secret, info, length):
    """RFC 5869 section 2.3, for one block of output."""
    return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()[:length]


secret = hmac.new(SESSION, KEY, hashlib.sha256).digest()
key_id = expand(secret, b"tailwater 1 id", 2)
numbers = struct.pack(">QQ", SENDER, COUNTER)
for form, name, algorithm in ((1, "chacha20-poly1305", ChaCha20Poly1305), (2, "aes-256-gcm", AESGCM)):
    key = expand(secret, b"tailwater 1 key" + bytes([form]) + numbers[:8], 32)
    covered = ADDRESSES + b"\x88\xb5\x77" + bytes([0x10 | form]) + FLOW_BITS + key_id + numbers
    sealed = algorithm(key).encrypt(bytes(4) + numbers[8:], TEXT, covered)
    frame = covered + sealed[-16:] + sealed[:-16]
    pathlib.Path(__file__).with_name(f"sealed-{name}.hex").write_text(frame.hex() + "\n")
