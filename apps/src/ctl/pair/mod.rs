//! `tailwater ctl pair`: a pair of blocks at the two ends of a link, put in and taken out without a packet lost.
//!
//! ```text
//!             FROM                    link                     TO
//!   route --> [encrypt] --> tx  ~~~~~~~~~~~~~~~~  rx --> [decrypt] --> route
//!
//!   insert    2. sender                                  1. receiver: plain frames pass it
//!   extract   1. sender                                  3. receiver, 2. once no frame comes for it any more
//! ```
//!
//! Each step is a transaction of its own process. If the second end refuses, the first one is taken back.
//!
//! | file | what it is |
//! |---|---|
//! | `sort` | the pairs there are |
//! | `end` | a process, one of the two |
//! | `settings` | which parameter is for which end |
//! | `insert`, `extract` | the steps |
//! | `quiet` | waiting until a count stands still |
//! | `account` | what was done, for people and programs |

mod account;
mod end;
mod extract;
mod insert;
mod quiet;
mod settings;
mod sort;

use clap::{Args, Subcommand};

use super::edit::{Pair as Parameter, pair as parameter};
use crate::failure::Failure;
use sort::Sort;

const AFTER_HELP: &str = "\
Examples:
  tailwater ctl pair insert encrypt --from 4711 'route -> tx:*' --to 4712 'rx:d0 -> route' port=d1 key_file=link.key
  tailwater ctl pair extract encrypt --from 4711 --to 4712

A process is named by its id or by the path of its control socket. ssh forwards those, so one end may be far away:
  ssh -L /tmp/far.sock:/run/tailwater/4711.sock root@far
  tailwater ctl pair insert compress --from 4711 'route -> tx:*' --to /tmp/far.sock 'rx:d0 -> route' port=d1

A pair is for one direction; the other takes a second one. Frames get longer, 40 bytes by encrypt, at most 10 by
compress: give the link between an MTU that leaves room, or packets that no longer fit are fragmented or refused.";

/// What to do with a pair.
#[derive(Subcommand, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) enum Pair {
    /// Put a pair in: the receiver first, then the sender
    #[command(after_help = insert::AFTER_HELP)]
    Insert(Insert),
    /// Take a pair out: the sender, then the receiver when nothing comes for it any more
    #[command(after_help = "Example:\n  tailwater ctl pair extract encrypt --from 4711 --to 4712")]
    Extract(Extract),
}

/// `pair insert`.
#[derive(Args, Debug)]
pub(super) struct Insert {
    /// encrypt (with decrypt at the other end) or compress (with decompress)
    #[arg(value_enum)]
    sort: Sort,
    /// Process that sends, by id or socket, and the edge to put the sender into
    #[arg(long, num_args = 2, value_names = ["PROCESS", "EDGE"], required = true)]
    from: Vec<String>,
    /// Process that receives, and the edge to put the receiver into
    #[arg(long, num_args = 2, value_names = ["PROCESS", "EDGE"], required = true)]
    to: Vec<String>,
    /// What to call both blocks; their kinds unless given
    #[arg(long = "as", value_name = "NAME")]
    called: Option<String>,
    /// Once the last plain frame has come, have the receiver drop plain ones
    #[arg(long)]
    strict: bool,
    /// Parameters, each for the ends that have it; from:KEY=VALUE and to:KEY=VALUE are for one end
    #[arg(value_name = "KEY=VALUE", value_parser = parameter)]
    parameters: Vec<Parameter>,
}

/// `pair extract`.
#[derive(Args, Debug)]
pub(super) struct Extract {
    /// encrypt (with decrypt at the other end) or compress (with decompress)
    #[arg(value_enum)]
    sort: Sort,
    /// Process that sends, by id or socket
    #[arg(long, value_name = "PROCESS")]
    from: String,
    /// Process that receives
    #[arg(long, value_name = "PROCESS")]
    to: String,
    /// What the blocks are called; their kinds unless given
    #[arg(long = "as", value_name = "NAME")]
    called: Option<String>,
}

/// The options of `ctl` itself that count here, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) json: bool,
    pub(super) dry_run: bool,
}

impl Pair {
    /// Does it, and says what was done.
    pub(super) fn run(&self, options: Options) -> anyhow::Result<()> {
        match self {
            Self::Insert(insert) => insert.run(options),
            Self::Extract(extract) => extract.run(options),
        }
    }
}

/// Options that choose one process or one version cannot be meant for two.
pub(super) fn refuse_choice() -> anyhow::Error {
    Failure::usage("a pair has two ends", "name the processes by --from and --to; --base does not apply").into()
}
