//! `tailwater http`: a small server for HTTP/1.1 inside the workers (RFC 9110, RFC 9112), and a client that downloads.
//!
//! | file | what it is |
//! |---|---|
//! | `serve` | the server's command |
//! | `server`, `connection` | its service in a worker, and one client's connection |
//! | `request`, `range` | what is asked |
//! | `content`, `pattern` | what there is: files in memory, and bytes made by their offset |
//! | `response`, `status` | what is answered |
//! | `get`, `url` | the client's command |
//! | `client`, `answer` | its service in a worker, and the answers that come |
//! | `spout`, `download` | the way of the bytes out of the worker, and what becomes of them |

mod answer;
mod client;
mod connection;
mod content;
mod download;
mod get;
mod pattern;
mod range;
mod request;
mod response;
mod serve;
mod server;
mod spout;
mod status;
mod url;

use clap::{Args as ClapArgs, Subcommand};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater http serve -i eth1 --listen 10.1.0.1:80
  tailwater http get -i eth1 http://10.1.0.2/index.html -o index.html

`tailwater http serve --help` and `tailwater http get --help` have more.";

/// Options of `http`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Serve a folder's files, and bodies of any size
    #[command(after_help = serve::AFTER_HELP)]
    Serve(Box<serve::Args>),
    /// Download, verify and time
    #[command(after_help = get::AFTER_HELP)]
    Get(Box<get::Args>),
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Serve(args) => serve::run(*args),
        Action::Get(args) => get::run(*args),
    }
}
