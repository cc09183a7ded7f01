//! The receiving side of a pair: what is for it, and what becomes of frames that are plain.

use tailwater_xdp::RegisteredEthertype;

use super::outlet::refuse_kernel_placement;
use super::{Found, find};
use crate::block::{Arguments, BuildError, Parameter, ParameterError, Services, ValueKind};
use crate::frame::Frame;
use crate::ledger::DropReason;
use crate::surroundings::Surroundings;

pub(crate) const PLAIN: Parameter = Parameter {
    key: "plain",
    kind: ValueKind::Text,
    default: Some("pass"),
    doc: "what becomes of frames that are not encapsulated: pass, or drop",
};

pub(crate) struct Inlet {
    ethertype: u16,
    header_len: usize,
    drop_plain: bool,
    /// Holds the EtherType registered with the steering programs.
    _registered: Option<RegisteredEthertype>,
}

impl Inlet {
    /// Of a block for frames of this EtherType, with a header of `header_len` bytes. From here on they reach the workers.
    pub(crate) fn new(
        ethertype: u16,
        header_len: usize,
        arguments: &Arguments,
        services: &Services,
    ) -> Result<Self, BuildError> {
        let drop_plain = parse_plain(arguments.text(PLAIN.key))?;
        let surroundings = Surroundings::of(services);
        refuse_kernel_placement(surroundings.as_deref())?;
        let registered = surroundings.map(|surroundings| surroundings.register_ethertype(ethertype)).transpose();
        let registered = registered.map_err(|error| BuildError::Other(error.to_string()))?.flatten();
        Ok(Self { ethertype, header_len, drop_plain, _registered: registered })
    }

    pub(crate) fn set_plain(&mut self, text: &str) -> Result<(), ParameterError> {
        self.drop_plain = parse_plain(text)?;
        Ok(())
    }

    /// Finds the header; `None` for a plain frame that may pass.
    pub(crate) fn find(&self, frame: &Frame) -> Result<Option<Found>, DropReason> {
        match find(frame, self.ethertype, self.header_len)? {
            None if self.drop_plain => Err(DropReason::NotEncapsulated),
            found => Ok(found),
        }
    }
}

pub(crate) fn parse_plain(text: &str) -> Result<bool, ParameterError> {
    match text {
        "pass" => Ok(false),
        "drop" => Ok(true),
        _ => Err(ParameterError::Value {
            key: PLAIN.key.into(),
            value: text.into(),
            wanted: "wants pass or drop".into(),
        }),
    }
}
