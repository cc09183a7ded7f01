//! The servers, as their users would start them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tailwater_lab::{Lab, Process, Program};

use super::site::Site;
use crate::contender::Idle;
use crate::forwarder::Binaries;
use crate::interrupt;
use crate::testbed::ROUTER_CPU;
use crate::tools;

pub(super) const LISTEN: &str = "10.1.0.1:80";
/// Places of the listening queue.
pub(super) const BACKLOG: &str = "8192";
const START: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Nginx { sendfile: bool },
    Tailwater(Idle),
}

impl Server {
    /// Starts it on its CPU; with what was started.
    pub(super) fn start(self, lab: &Lab, site: &Site, binaries: &Binaries) -> Result<(Process, String)> {
        match self {
            Self::Nginx { sendfile } => {
                let path = site.folder().join("nginx.conf");
                fs::write(&path, configuration(site.folder(), &site.root(), sendfile))?;
                let program = lab.dut().program("nginx").arg("-c").arg(&path);
                let sendfile = if sendfile { "on" } else { "off" };
                let command = format!(
                    "nginx: one process, sendfile {sendfile}, open_file_cache, no access log, no ETag, no Last-Modified"
                );
                let process = program.cpu(ROUTER_CPU).spawn()?;
                wait_until_it_listens(lab)?;
                Ok((process, command))
            }
            Self::Tailwater(idle) => {
                let program = ours(lab, site, idle, binaries);
                let mut process = program.clone().cpu(ROUTER_CPU).spawn()?;
                process.wait_for_line(tools::READY, START)?;
                Ok((process, program.display_short()))
            }
        }
    }
}

fn ours(lab: &Lab, site: &Site, idle: Idle, binaries: &Binaries) -> Program {
    let cores = ROUTER_CPU.to_string();
    let program = lab.dut().program(&binaries.tailwater).args(["http", "serve", "-i", "d0", "--listen", LISTEN]);
    program.arg("--root").arg(site.root()).args(["--cores", &cores, "--idle", idle.word()])
}

/// A process that is its own worker, so that the pinned one serves; with no more in the heads of its answers than in ours,
/// as far as it can be told.
fn configuration(folder: &Path, root: &Path, sendfile: bool) -> String {
    let (folder, root) = (folder.display(), root.display());
    let sendfile = if sendfile { "on" } else { "off" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|user| format!("    {user}_temp_path {folder}/{user};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log {folder}/error.log;\npid {folder}/pid;\n\
         events {{\n    worker_connections 4096;\n    multi_accept on;\n}}\n\
         http {{\n    access_log off;\n    server_tokens off;\n    etag off;\n    add_header Last-Modified \"\";\n    \
         default_type application/octet-stream;\n    sendfile {sendfile};\n    tcp_nopush {sendfile};\n    \
         keepalive_requests 1000000000;\n    open_file_cache max=100;\n{temporary}    \
         server {{\n        listen {LISTEN} backlog={BACKLOG};\n        root {root};\n    }}\n}}\n"
    )
}

fn wait_until_it_listens(lab: &Lab) -> Result<()> {
    let end = Instant::now() + START;
    while lab.client().enter(|| std::net::TcpStream::connect(LISTEN).is_err())? {
        if Instant::now() > end {
            bail!("nginx does not listen at {LISTEN} within {START:?}");
        }
        interrupt::sleep(Duration::from_millis(20))?;
    }
    Ok(())
}
