//! `tailwater demo`: a network in a box, forwarding, echoing and serving step by step, with the kernel's figures beside ours.
//!
//! ```text
//!   left                     router                    right
//!   l0 10.81.1.2 --------- r0 10.81.1.1
//!                          r1 10.81.2.1 --------- s0 10.81.2.2
//! ```
//!
//! Everything lives in network namespaces of its own, which are removed however this ends.

mod child;
mod network;
mod round_trip;
mod tcp;

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output;
use crate::session::check_privileges;
use crate::table::Table;
use child::Child;
use network::{LEFT, Network, RIGHT, ROUTER, Side};
use round_trip::{Echo, RoundTrips};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  tailwater demo                 about fifteen seconds, needs root
  tailwater demo --seconds 5     steadier figures

Touches no interface of this machine: it works in network namespaces of its own and removes them.
The first figures are round trips of single packets, where waiting for CPUs counts most; for throughput run ci/demo.
The last ones are the kernel's TCP client, served by kernel sockets and by our TCP.";

/// UDP port of the echo in the demo.
const ECHO_PORT: u16 = 7007;
/// TCP port of the servers.
const HTTP_PORT: u16 = 8007;
/// Longest time that our own commands take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

/// Options of `demo`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Args {
    /// Seconds of each measurement
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = crate::common::seconds)]
    seconds: Duration,
    /// Print JSON: one object a line, told apart by "event"
    #[arg(short, long)]
    json: bool,
}

/// One measured way from left to right.
#[derive(Debug, Serialize)]
struct Figure {
    forwarder: &'static str,
    echo: &'static str,
    ping_us: f64,
    #[serde(flatten)]
    udp: RoundTrips,
}

/// One server, asked by the kernel's client.
#[derive(Debug, Serialize)]
struct Served {
    server: &'static str,
    #[serde(flatten)]
    tcp: tcp::Tcp,
}

/// Prints steps and keeps figures.
struct Show<'a> {
    args: &'a Args,
    interrupt: &'a Interrupt,
    network: &'a Network,
    step: u32,
    figures: Vec<Figure>,
    served: Vec<Served>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    check_privileges()?;
    let network = Network::build()?;
    let mut show = Show {
        args: &args,
        interrupt: &interrupt,
        network: &network,
        step: 0,
        figures: Vec::new(),
        served: Vec::new(),
    };
    show.all()?;
    let (figures, served) = (std::mem::take(&mut show.figures), std::mem::take(&mut show.served));
    drop(network);
    match args.json {
        true => output::line(serde_json::json!({ "event": "summary", "figures": figures, "tcp": served })),
        false => {
            output::line(format_args!("\n{}", table(&figures).lines().join("\n")));
            output::line(format_args!("\n{}", table_of_servers(&served).lines().join("\n")));
            output::line(format_args!(
                "\nThe namespaces are gone again. Next: `tailwater doctor`, `tailwater l3fwd --help`."
            ));
        }
    }
    Ok(())
}

impl Show<'_> {
    fn all(&mut self) -> anyhow::Result<()> {
        self.say("three namespaces, left - router - right, joined by two veth pairs")?;
        let kernel_echo = Echo::start(&self.network.side(RIGHT), ECHO_PORT)?;
        self.say("the kernel forwards, and echoes UDP in right")?;
        self.measure("kernel", "kernel")?;
        self.say("`tailwater l3fwd -i r0 -i r1` takes over in router; routes and neighbours stay the kernel's")?;
        let router = self.network.side(ROUTER);
        let mut l3fwd = Child::start(&router, &["l3fwd", "-i", "r0", "-i", "r1", "--idle", "adaptive"], START)?;
        self.measure("tailwater", "kernel")?;
        l3fwd.check()?;
        drop(kernel_echo);
        self.say("`tailwater echo --udp -i s0` answers in right")?;
        let listen = format!("{}:{ECHO_PORT}", network::RIGHT_ADDRESS);
        let mut echo =
            Child::start(&self.network.side(RIGHT), &["echo", "--udp", "-i", "s0", "--listen", &listen], START)?;
        self.measure("tailwater", "tailwater")?;
        l3fwd.check()?;
        echo.check()?;
        self.say("both stop; their last words:")?;
        for finished in [echo.stop()?, l3fwd.stop()?] {
            let words = finished.lines().filter(|line| !line.starts_with("ready")).take(6);
            words.for_each(|line| {
                if !self.args.json {
                    output::line(format_args!("     {line}"))
                }
            });
        }
        self.serve()
    }

    /// The kernel's TCP and ours, asked for the same by the same client. The kernel forwards again.
    fn serve(&mut self) -> anyhow::Result<()> {
        self.say("TCP: kernel sockets serve in right, asked from left")?;
        let kernel = tcp::Server::start(&self.network.side(RIGHT), HTTP_PORT)?;
        self.ask("kernel")?;
        drop(kernel);
        self.say("TCP: `tailwater http serve -i s0` does it instead")?;
        let listen = format!("{}:{HTTP_PORT}", network::RIGHT_ADDRESS);
        let words = ["http", "serve", "-i", "s0", "--listen", &listen];
        let mut http = Child::start(&self.network.side(RIGHT), &words, START)?;
        self.ask("tailwater")?;
        http.check()
    }

    fn ask(&mut self, server: &'static str) -> anyhow::Result<()> {
        let stop = || self.interrupt.wait(Duration::ZERO);
        let left = self.network.side(LEFT);
        let tcp = tcp::measure(&left, (network::RIGHT_ADDRESS, HTTP_PORT), self.args.seconds, stop)?;
        if !self.args.json {
            let RoundTrips { count, median_us, p99_us, .. } = tcp.requests;
            output::line(format_args!(
                "     {count} requests on a connection, median {median_us:.1} us, 99 % below {p99_us:.1} us; {:.0} Mbit/s in one answer",
                tcp.bulk_mbit_per_s
            ));
        }
        self.served.push(Served { server, tcp });
        Ok(())
    }

    /// Prints the next step; ends the demo if that is wanted.
    fn say(&mut self, what: &str) -> anyhow::Result<()> {
        if self.interrupt.wait(Duration::ZERO) {
            return Err(interrupted());
        }
        self.step += 1;
        match self.args.json {
            true => output::line(serde_json::json!({ "event": "step", "number": self.step, "what": what })),
            false => output::line(format_args!("{}. {what}", self.step)),
        }
        Ok(())
    }

    fn measure(&mut self, forwarder: &'static str, echo: &'static str) -> anyhow::Result<()> {
        let left: Side<'_> = self.network.side(LEFT);
        let ping_us = left.ping(network::RIGHT_ADDRESS)?;
        let stop = || self.interrupt.wait(Duration::ZERO);
        let udp = round_trip::measure(&left, (network::RIGHT_ADDRESS, ECHO_PORT), self.args.seconds, stop)?;
        let figure = Figure { forwarder, echo, ping_us, udp };
        if !self.args.json {
            let RoundTrips { count, lost, median_us, p99_us } = figure.udp;
            output::line(format_args!(
                "     ping {ping_us:.0} us; {count} UDP round trips, median {median_us:.1} us, 99 % below {p99_us:.1} us, {lost} lost"
            ));
        }
        self.figures.push(figure);
        Ok(())
    }
}

fn interrupted() -> anyhow::Error {
    Failure::new("interrupted; everything has been removed", "").into()
}

fn table_of_servers(served: &[Served]) -> Table {
    let mut table = Table::new(&["TCP server", "request median us", "99 % us", "requests/s", "bulk Mbit/s"]);
    for Served { server, tcp } in served {
        table.row(vec![
            (*server).to_owned(),
            format!("{:.1}", tcp.requests.median_us),
            format!("{:.1}", tcp.requests.p99_us),
            crate::table::grouped((1e6 / tcp.requests.median_us.max(0.001)) as u64),
            format!("{:.0}", tcp.bulk_mbit_per_s),
        ]);
    }
    table
}

fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new(&["forwarder", "echo", "ping us", "UDP median us", "99 % us", "round trips/s", "lost"]);
    for Figure { forwarder, echo, ping_us, udp } in figures {
        table.row(vec![
            (*forwarder).to_owned(),
            (*echo).to_owned(),
            format!("{ping_us:.0}"),
            format!("{:.1}", udp.median_us),
            format!("{:.1}", udp.p99_us),
            crate::table::grouped((1e6 / udp.median_us.max(0.001)) as u64),
            udp.lost.to_string(),
        ]);
    }
    table
}
