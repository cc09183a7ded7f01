//! Loading the programs of `bpf/tools.bpf.c`.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapHandle, OpenProgramMut, ProgramMut};

use crate::error::{Error, Result};
use crate::log;

mod skel {
    #![allow(unsafe_code, unreachable_pub, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]
    #![allow(clippy::panic, dead_code, non_camel_case_types, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/tools.skel.rs"));
}

/// One program of the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Program {
    Sink,
    Reflect,
    Pass,
    Redirect,
    FibRedirect,
    Generate,
}

/// `struct tool` of the C side.
#[derive(Clone, Debug, Default)]
pub(super) struct Constants {
    pub(super) ifindex: u32,
    pub(super) flows_mask: u32,
    pub(super) dests: u32,
    pub(super) dest_first: u32,
    pub(super) clock_reads: u32,
    pub(super) checksum: u32,
    pub(super) header: Vec<u8>,
}

/// A loaded program and its counters.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) program: OwnedFd,
    pub(super) seen: MapHandle,
}

/// Loads one program with its constants.
pub(super) fn load(which: Program, constants: &Constants) -> Result<Loaded> {
    log::install();
    drop(log::take_tail());
    let failed = |source| Error::load("measuring", source, log::take_tail());
    let missing = || failed(std::io::Error::from(std::io::ErrorKind::InvalidData).into());
    let mut storage = MaybeUninit::uninit();
    let mut open = skel::ToolsSkelBuilder::default().open(&mut storage).map_err(failed)?;

    set_constants(&mut open.maps.rodata_data.as_mut().ok_or_else(missing)?.tool, constants);
    for mut program in open.open_object_mut().progs_mut() {
        program.set_autoload(false);
    }
    open_program(&mut open.progs, which).set_autoload(true);

    let skel = open.load().map_err(failed)?;
    let program = program(&skel.progs, which).as_fd().try_clone_to_owned();
    let seen = MapHandle::try_from(&skel.maps.seen).map_err(|source| Error::map("seen", "dup", source))?;
    Ok(Loaded { program: program.map_err(|error| Error::system("dup of a program", error))?, seen })
}

fn set_constants(tool: &mut skel::types::tool, constants: &Constants) {
    let Constants { ifindex, flows_mask, dests, dest_first, clock_reads, checksum, header } = constants;
    *tool = skel::types::tool {
        ifindex: *ifindex,
        flows_mask: *flows_mask,
        dests: *dests,
        dest_first: *dest_first,
        clock_reads: *clock_reads,
        checksum: *checksum,
        header: [0; 6],
    };
    for (to, from) in tool.header.iter_mut().zip(header.chunks(8)) {
        let mut word = [0; 8];
        word.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
        *to = u64::from_ne_bytes(word);
    }
}

fn open_program<'a, 'obj>(
    programs: &'a mut skel::OpenToolsProgs<'obj>,
    which: Program,
) -> &'a mut OpenProgramMut<'obj> {
    match which {
        Program::Sink => &mut programs.sink,
        Program::Reflect => &mut programs.reflect,
        Program::Pass => &mut programs.pass,
        Program::Redirect => &mut programs.redirect,
        Program::FibRedirect => &mut programs.fib_redirect,
        Program::Generate => &mut programs.generate,
    }
}

fn program<'a, 'obj>(programs: &'a skel::ToolsProgs<'obj>, which: Program) -> &'a ProgramMut<'obj> {
    match which {
        Program::Sink => &programs.sink,
        Program::Reflect => &programs.reflect,
        Program::Pass => &programs.pass,
        Program::Redirect => &programs.redirect,
        Program::FibRedirect => &programs.fib_redirect,
        Program::Generate => &programs.generate,
    }
}
