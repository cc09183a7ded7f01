//! `tailwater capture`: an interface's packets as a pcapng file.

use std::time::Duration;

use clap::Args as ClapArgs;

use crate::failure::Failure;

pub(crate) const AFTER_HELP: &str = "";

/// Options of `capture`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// x
    #[arg(long)]
    duration: Option<u32>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let _ = (args.duration, Duration::ZERO);
    Err(Failure::new("not yet", "").into())
}
