//! `encrypt`: seals frames so that only `decrypt` with the same key opens them, and notices every change and repetition.
//!
//! In: Ethernet. Out: `out`, sealed, in the same order; frames for other ports than `port` as they are. The frame's format
//! is drawn in `wrap/sealer.rs`, keys are described in `wrap/cipher.rs`. Seals one direction; the other takes a second pair.
//!
//! A sealed frame is 40 bytes longer. The forwarder leaves room for them, and where the link's MTU does not leave it to
//! the packets that come, those are fragmented or refused with an ICMP message, as in front of a tunnel.
//!
//! With `decrypt` put in first and taken out last, frames are at no time lost or garbled: `decrypt` passes plain ones.

use std::any::Any;

use crate::block::{
    self, Arguments, Block, BuildError, Context, ImportError, Kind, PacketType, Parameter, ParameterError, Pin,
    Services, State, ValueKind,
};
use crate::blocks::wrap::cipher::{Algorithm, KEY_FILE, Key, SESSION};
use crate::blocks::wrap::outlet::{FLOW_KEY, Outlet, PORT};
use crate::blocks::wrap::sealer::{HEADER_LEN, Names, Sealer};
use crate::blocks::wrap::{ENCRYPTED, SCRATCH_LEN, Scratch, Start, ethertype_at, open_gap, pad};
use crate::frame::{Batch, Frame};
use crate::ledger::DropReason;

const CIPHER: Parameter = Parameter {
    key: "cipher",
    kind: ValueKind::Text,
    default: Some("auto"),
    doc: "chacha20-poly1305, aes-256-gcm, or auto: AES where the processor has instructions for it; `decrypt` takes any",
};

pub(crate) const KIND: Kind = Kind {
    name: "encrypt",
    summary: "seal frames for a decrypt block",
    input: PacketType::Ethernet,
    outputs: &[Pin { name: "out", carries: PacketType::Ethernet }],
    parameters: &[KEY_FILE, SESSION, CIPHER, PORT, FLOW_KEY],
    state: Some("encrypt"),
    prepare: |key, arguments| match key {
        "key_file" | "session" | "cipher" => Ok(Some(Box::new(sealer(arguments)?))),
        _ => block::fixed(key, arguments),
    },
    build: |arguments, services| Ok(Box::new(Encrypt::new(arguments, services)?)),
    ..Kind::PLAIN
};

const OUT: usize = 0;
/// Shortest Ethernet frame without its checksum (IEEE 802.3 §3.2.8), which a wire would pad to.
const WIRE_MIN: usize = 60;

#[derive(Clone, Copy, Default)]
struct Counted {
    sealed: u64,
    passed: u64,
    refused: u64,
}

/// What a successor takes over.
struct Carried {
    sealer: Sealer,
    counted: Counted,
}

struct Encrypt {
    outlet: Outlet,
    scratch: Scratch,
    carried: Carried,
}

impl Encrypt {
    fn new(arguments: &Arguments, services: &Services) -> Result<Self, BuildError> {
        let sealer = sealer(arguments)?;
        Ok(Self {
            outlet: Outlet::new(KIND.name, HEADER_LEN as u32, arguments, services)?,
            scratch: Scratch::with_capacity(SCRATCH_LEN),
            carried: Carried { sealer, counted: Counted::default() },
        })
    }

    fn seal(&mut self, frame: &mut Frame) -> Result<(), DropReason> {
        let at = ethertype_at(frame.bytes()).ok_or(DropReason::BadEthernet)?;
        let flow_bits = self.outlet.flow_bits(frame.bytes(), at);
        pad(frame, WIRE_MIN - HEADER_LEN);
        open_gap(frame, at, HEADER_LEN)?;
        self.outlet.check_len(frame, at)?;
        let start = Start { ethertype: ENCRYPTED, form: 0, flow_bits };
        let sealed = self.carried.sealer.seal(frame, at, start, &mut self.scratch);
        if sealed { Ok(()) } else { Err(DropReason::PacketTooBig) }
    }
}

/// The sender that the parameters describe, under a name of its own.
fn sealer(arguments: &Arguments) -> Result<Sealer, ParameterError> {
    let algorithm = Algorithm::parse(CIPHER.key, arguments.text(CIPHER.key))?;
    let path = arguments.text(KEY_FILE.key);
    let key = Key::read(path, arguments.text(SESSION.key))?;
    let names = Names::draw().map_err(|error| ParameterError::Value {
        key: KEY_FILE.key.into(),
        value: path.into(),
        wanted: format!("cannot be used without random numbers, which the kernel did not give: {error}"),
    })?;
    Ok(Sealer::new(key, algorithm, names))
}

impl Block for Encrypt {
    fn process(&mut self, batch: &mut Batch, context: &mut Context<'_>) {
        self.outlet.refresh();
        for frame in batch.drain() {
            if !self.outlet.takes(&frame) {
                self.carried.counted.passed += 1;
                context.emit(OUT, frame);
                continue;
            }
            let Some(mut frame) = context.unshare(frame) else { continue };
            match self.seal(&mut frame) {
                Ok(()) => {
                    self.carried.counted.sealed += 1;
                    context.emit(OUT, frame);
                }
                Err(reason) => {
                    self.carried.counted.refused += 1;
                    context.discard(frame, reason);
                }
            }
        }
    }

    /// The sealer that was there goes back in exchange, and with it the count of its nonces.
    fn set_prepared(&mut self, key: &str, prepared: &mut (dyn Any + Send)) -> Result<(), ParameterError> {
        match prepared.downcast_mut() {
            Some(sealer) => std::mem::swap(&mut self.carried.sealer, sealer),
            None => return Err(ParameterError::Fixed { key: key.to_owned() }),
        }
        Ok(())
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let Counted { sealed, passed, refused } = self.carried.counted;
        report("sealed", sealed);
        report("passed", passed);
        report("refused", refused);
    }

    fn export(&mut self) -> Option<State<'_>> {
        Some(State::lend(KIND.name, &mut self.carried))
    }

    /// A successor with another key or cipher takes over the counters only.
    fn import(&mut self, state: State<'_>) -> Result<(), ImportError> {
        let Carried { sealer, counted } = state.content(KIND.name)?;
        std::mem::swap(&mut self.carried.counted, counted);
        if self.carried.sealer.is_like(sealer) {
            std::mem::swap(&mut self.carried.sealer, sealer);
        }
        Ok(())
    }
}
