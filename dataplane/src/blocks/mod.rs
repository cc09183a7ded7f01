//! The blocks that come with Tailwater, one file each.

pub(crate) mod bpf;
mod capture;
mod compress;
mod counter;
mod decompress;
mod decrypt;
mod encrypt;
mod ethernet;
mod filter;
mod forward;
pub(crate) mod header;
mod impair;
mod ip_forward;
mod libpcap;
mod mirror;
mod rate_limit;
mod tee;
mod vlan;
mod wrap;

use crate::block::Kind;

/// All built-in kinds.
pub(crate) const KINDS: &[Kind] = &[
    capture::KIND,
    compress::KIND,
    counter::KIND,
    decompress::KIND,
    decrypt::KIND,
    encrypt::KIND,
    ethernet::KIND,
    filter::KIND,
    forward::KIND,
    impair::KIND,
    ip_forward::KIND,
    mirror::KIND,
    rate_limit::KIND,
    crate::service::KIND,
    tee::KIND,
    vlan::KIND,
];
