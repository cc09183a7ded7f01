//! Placeholder until the command lands.

use clap::Args as ClapArgs;

use crate::common::Common;
use crate::failure::Failure;

#[derive(ClapArgs, Debug)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, _common: Common) -> anyhow::Result<()> {
    Err(Failure::new("not part of this build", "").into())
}
