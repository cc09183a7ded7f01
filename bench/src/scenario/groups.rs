//! Operations on whole interface groups: the table of 2012 (2048 devices one by one and as a group), with more rows.
//!
//! ```text
//!   client                 dut
//!   p0 p1 p2 ... ------- v0 v1 v2 ...      all v in group 7; the p stay down
//! ```
//!
//! For each size the network is built once, and the contenders take turns in it. What is timed is the whole command,
//! from its start to its end. After each, every member is looked at: a command that left one out has failed. The other
//! ends stay down because the kernel takes up changes of carriers later, a hundred in a second, and disturbs what is
//! measured then.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tailwater_lab::{Lab, LabConfig, Topology, pin_thread};
use tailwater_netlink::{Control, Group, Link, LinkChange};

use crate::contender::{Device, Idle};
use crate::interrupt;
use crate::report::{Better, Measure};
use crate::scenario::Session;
use crate::testbed::ROUTER_CPU;
use crate::tools;

const REFERENCE: &str = "ip-group";
const GROUP: u32 = 7;
/// The MTU that is set, and the one before.
const MTUS: [u32; 2] = [1400, 1500];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    IpGroup,
    IpEach,
    IpBatch,
    Ours {
        per_member: bool,
    },
    /// By our library in a process that runs already.
    Library,
}

struct Contender {
    name: &'static str,
    about: &'static str,
    way: Way,
}

const CONTENDERS: [Contender; 6] = [
    Contender { name: REFERENCE, about: "the kernel's group request, by ip", way: Way::IpGroup },
    Contender { name: "ip-each", about: "a process of ip for each device", way: Way::IpEach },
    Contender { name: "ip-batch", about: "one process of ip, a line for each device", way: Way::IpBatch },
    Contender {
        name: "tailwater-group",
        about: "tailwater, in its own way: up and MTU by the kernel's group request, down by one for each device",
        way: Way::Ours { per_member: false },
    },
    Contender {
        name: "tailwater-batch",
        about: "a request for each device, 256 in a system call, for down one",
        way: Way::Ours { per_member: true },
    },
    Contender {
        name: "tailwater-library",
        about: "the kernel's group request, by tailwater-netlink in a process that runs already",
        way: Way::Library,
    },
];

/// Our forwarder on all members, from its start until it forwards.
const ATTACH: &str = "tailwater-attach";
const ATTACH_ABOUT: &str = "tailwater l3fwd --group, from its start to ready, and from its end to its exit";
/// Members that it is attached to; those sizes of the others that are not larger.
const ATTACH_MEMBERS: [u32; 3] = [16, 64, 256];
const ATTACH_MEASURES: [(&str, &str); 2] =
    [("attach", "Attaching the forwarder to all members"), ("detach", "Detaching it from all members")];
const ATTACH_MAX: Duration = Duration::from_secs(60);

/// What is done to a group, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Up,
    Mtu,
    Down,
}

const OPERATIONS: [(Operation, &str, &str); 3] = [
    (Operation::Up, "up", "Setting all members up"),
    (Operation::Mtu, "mtu", "Changing the MTU of all members"),
    (Operation::Down, "down", "Setting all members down"),
];

impl Operation {
    /// The words that `ip link set DEVICE` and `tailwater group GROUP` have in common.
    fn words(self) -> Vec<String> {
        match self {
            Self::Up => vec!["up".into()],
            Self::Mtu => vec!["mtu".into(), MTUS[0].to_string()],
            Self::Down => vec!["down".into()],
        }
    }

    /// Whether it is done to a member.
    fn is_done(self, link: &Link) -> bool {
        match self {
            Self::Up => link.up,
            Self::Mtu => link.mtu_bytes == MTUS[0],
            Self::Down => !link.up,
        }
    }
}

pub(super) fn names() -> Vec<(String, String)> {
    let named = CONTENDERS.iter().map(|contender| (contender.name, contender.about)).chain([(ATTACH, ATTACH_ABOUT)]);
    named.map(|(name, about)| (name.to_owned(), about.to_owned())).collect()
}

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let sizes = session.options.members.clone();
    for (_, name, title) in OPERATIONS {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: "ms".into(),
            better: Better::Lower,
            reference: REFERENCE.into(),
            columns: sizes.iter().map(u32::to_string).collect(),
            load: None,
            value: format!("{name}_ms"),
        });
    }
    session.note(
        "Columns are members of the group: ends of veth pairs whose other ends are down in another namespace; IPv6 is off. \
         Timed is the whole command with its process, on CPU 0. Each program was run once before, without being timed; tailwater is a copy, as an installed one is. After each \
         command every member was looked at.",
    );
    session.note("\"tailwater-library\" is timed without starting a process, and so shows what that costs.");
    let binaries = &session.options.binaries;
    for contender in CONTENDERS.iter().filter(|contender| session.wants(contender.name)).collect::<Vec<_>>() {
        let absent = match contender.way {
            Way::Ours { .. } => binaries.absent(Device::TailwaterUser(Idle::Sleep)),
            _ => None,
        };
        session.add_row(contender.name, contender.about, "CPU 0", absent);
    }
    let absent = session.options.binaries.absent(Device::TailwaterUser(Idle::Sleep));
    if session.wants(ATTACH) {
        session.add_row(ATTACH, ATTACH_ABOUT, "its worker on CPU 0", absent);
    }
    let attached = attach_sizes(&session.options.members, session.is_present(ATTACH));
    for (name, title) in ATTACH_MEASURES {
        session.measure(Measure {
            name: name.into(),
            title: title.into(),
            unit: "ms".into(),
            better: Better::Lower,
            reference: ATTACH.into(),
            columns: attached.iter().map(u32::to_string).collect(),
            load: None,
            value: format!("{name}_ms"),
        });
    }
    let present = CONTENDERS.iter().filter(|contender| session.is_present(contender.name)).count();
    let turns = present * sizes.len() + attached.len();
    session.plan((turns * session.options.runs as usize) as u64);
    for size in sizes {
        let network = Network::build(size, &session.options.binaries.tailwater)?;
        for run in 1..=session.options.runs {
            // Nobody always comes after the same other.
            let order = CONTENDERS.iter().cycle().skip(run as usize % CONTENDERS.len()).take(CONTENDERS.len());
            for contender in order {
                if session.is_present(contender.name)
                    && let Err(error) = turn(session, &network, contender, run)
                {
                    session.failed(contender.name, error)?;
                    network.reset()?;
                }
            }
        }
    }
    for size in attached {
        let network = Network::build(size, &session.options.binaries.tailwater)?;
        network.lab.dut().ip(&format!("link set group {GROUP} up"))?;
        for run in 1..=session.options.runs {
            if session.is_present(ATTACH)
                && let Err(error) = attach(session, &network, run)
            {
                session.failed(ATTACH, error)?;
            }
        }
    }
    Ok(())
}

fn attach_sizes(members: &[u32], wanted: bool) -> Vec<u32> {
    let most = members.iter().copied().max().filter(|_| wanted).unwrap_or(0);
    ATTACH_MEMBERS.into_iter().filter(|&size| size <= most).collect()
}

fn attach(session: &mut Session<'_>, network: &Network, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let (group, most) = (GROUP.to_string(), tailwater_xdp::PORTS_MAX.to_string());
    let program = network.lab.dut().program(&session.options.binaries.tailwater);
    let program = program.args(["l3fwd", "--group", &group, "--max-interfaces", &most]);
    let program = program.args(["--place", "user", "--idle", "sleep"]);
    session.commands(ATTACH, &[program.display_short()]);
    let started = Instant::now();
    let mut process = program.spawn()?;
    process.wait_for_line(tools::READY, ATTACH_MAX)?;
    let attached = started.elapsed();
    let ended = Instant::now();
    process.stop().context("the forwarder was not there any more")?;
    let detached = ended.elapsed();
    let values = [("attach_ms", attached.as_secs_f64() * 1e3), ("detach_ms", detached.as_secs_f64() * 1e3)];
    session.sample(ATTACH, &network.names.len().to_string(), "", run, quiet, &values);
    let size = network.names.len();
    session.step(&format!("run {run} {ATTACH}, {size} members: {:.0} ms, {:.0} ms", values[0].1, values[1].1));
    Ok(())
}

fn turn(session: &mut Session<'_>, network: &Network, contender: &Contender, run: u32) -> Result<()> {
    let quiet = session.wait_until_quiet()?;
    let mut values = Vec::new();
    for (operation, name, _) in OPERATIONS {
        interrupt::check()?;
        let took = if contender.way == Way::Library {
            network.time_library(operation)?
        } else {
            let commands = network.commands(contender.way, operation)?;
            session.commands(contender.name, &[shown(&commands)]);
            network.time(&commands)?
        };
        network.check(|link| operation.is_done(link)).with_context(|| format!("{} {name}", contender.name))?;
        values.push((format!("{name}_ms"), took.as_secs_f64() * 1e3));
    }
    network.reset()?;
    let size = network.names.len().to_string();
    let said: Vec<String> = values.iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
    let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    session.sample(contender.name, &size, "", run, quiet, &values);
    session.step(&format!("run {run} {}, {size} members: {}", contender.name, said.join(", ")));
    Ok(())
}

/// The first command, and how many there are.
fn shown(commands: &[Vec<String>]) -> String {
    let first = commands.first().map(|words| words.join(" ")).unwrap_or_default();
    if commands.len() > 1 { format!("{first}    (and so on, one process a member)") } else { first }
}

/// A group of down interfaces in a namespace.
struct Network {
    lab: Lab,
    names: Vec<String>,
    /// Files of `ip -batch` and our command, removed with the network.
    folder: PathBuf,
    /// A copy, as an installed one is. Of the file that the linker wrote the kernel keeps small pieces, and maps a page
    /// at a time; what was copied, or read from the disk as `ip` was, it maps in large ones.
    tailwater: PathBuf,
}

impl Network {
    fn build(members: u32, tailwater: &Path) -> Result<Self> {
        let config = LabConfig { ipv6: false, ..LabConfig::default() };
        let lab = Lab::build(Topology::Pair, &config)?;
        let names: Vec<String> = (0..members).map(|at| format!("v{at}")).collect();
        let folder = std::env::temp_dir().join(format!("tailwater-bench-groups-{}-{members}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let installed = folder.join("tailwater");
        if tailwater.exists() {
            std::fs::copy(tailwater, &installed).with_context(|| format!("copying {}", tailwater.display()))?;
        }
        let network = Self { lab, names, folder, tailwater: installed };
        let peers = network.lab.client().name();
        let pairs = (0..members)
            .map(|at| format!("link add v{at} group {GROUP} type veth peer name p{at} group {GROUP} netns {peers}\n"));
        network.lab.dut().ip_batch(&pairs.collect::<String>())?;
        for (operation, name, _) in OPERATIONS {
            let line = |member: &String| format!("link set {member} {}\n", operation.words().join(" "));
            std::fs::write(network.folder.join(name), network.names.iter().map(line).collect::<String>())?;
        }
        network.reset()?;
        Ok(network)
    }

    /// Everything as it was before the first operation.
    fn reset(&self) -> Result<()> {
        let dut = self.lab.dut();
        dut.ip(&format!("link set group {GROUP} down"))?;
        dut.ip(&format!("link set group {GROUP} mtu {}", MTUS[1]))?;
        self.check(|link| !link.up && link.mtu_bytes == MTUS[1])
    }

    fn commands(&self, way: Way, operation: Operation) -> Result<Vec<Vec<String>>> {
        let command = |before: &[&str], words: Vec<String>| {
            before.iter().map(|word| (*word).to_owned()).chain(words).collect::<Vec<String>>()
        };
        let group = GROUP.to_string();
        Ok(match way {
            Way::IpGroup => vec![command(&["ip", "link", "set", "group", &group], operation.words())],
            Way::IpEach => {
                self.names.iter().map(|name| command(&["ip", "link", "set", name], operation.words())).collect()
            }
            Way::IpBatch => {
                let file = OPERATIONS.iter().find(|(other, ..)| *other == operation).map(|(_, name, _)| name);
                let file = self.folder.join(file.context("an operation without a file")?);
                vec![command(&["ip", "-batch", &file.to_string_lossy()], Vec::new())]
            }
            Way::Library => Vec::new(),
            Way::Ours { per_member } => {
                let mut words = command(&[&self.tailwater.to_string_lossy(), "group", &group], operation.words());
                words.extend(per_member.then(|| "--per-member".to_owned()));
                vec![words]
            }
        })
    }

    /// Runs the commands one after the other inside, pinned. What they need is in memory before the clock starts.
    fn time(&self, commands: &[Vec<String>]) -> Result<Duration> {
        let warm_up: Vec<String> = commands.iter().flat_map(|words| words.first().cloned()).take(1).collect();
        self.lab.dut().enter(|| {
            pin_to_router_cpu()?;
            warm_up.iter().try_for_each(|program| run_program(program, &["-V".to_owned()]))?;
            let started = Instant::now();
            for words in commands {
                interrupt::check()?;
                let (program, arguments) = words.split_first().context("an empty command")?;
                run_program(program, arguments)?;
            }
            Ok(started.elapsed())
        })?
    }

    fn time_library(&self, operation: Operation) -> Result<Duration> {
        let change = match operation {
            Operation::Up => LinkChange::Up,
            Operation::Mtu => LinkChange::Mtu(MTUS[0]),
            Operation::Down => LinkChange::Down,
        };
        self.lab.dut().enter(|| {
            pin_to_router_cpu()?;
            let mut netlink = Control::open()?;
            let started = Instant::now();
            netlink.change_group(Group::new(GROUP)?, change)?;
            Ok(started.elapsed())
        })?
    }

    /// Fails unless it holds for every member.
    fn check(&self, holds: impl Fn(&Link) -> bool + Send + Sync) -> Result<()> {
        self.lab.dut().enter(|| {
            let members = Control::open()?.links_in_group(GROUP)?;
            ensure!(members.len() == self.names.len(), "{} members are left", members.len());
            let missing = members.iter().filter(|link| !holds(link)).count();
            ensure!(missing == 0, "{missing} of {} members were left out", members.len());
            Ok(())
        })?
    }
}

fn pin_to_router_cpu() -> Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    Ok(pin_thread(thread, ROUTER_CPU)?)
}

fn run_program(program: &str, arguments: &[String]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program} {}: {status}", arguments.join(" "));
    Ok(())
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
