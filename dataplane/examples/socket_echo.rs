//! An echo server (RFC 862) with a thread for each connection, on sockets that look like the standard library's.
//!
//! `cargo run --release -p tailwater-dataplane --example socket_echo -- IF ADDR:PORT [CORE]...`

use std::io::Read;
use std::net::Shutdown;
use std::sync::mpsc;

use tailwater_dataplane::runtime::{InterfaceConfig, RuntimeConfig};
use tailwater_dataplane::service::Host;
use tailwater_dataplane::socket::{SocketConfig, Sockets, TcpStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, at, cores @ ..] = arguments.as_slice() else {
        return Err("usage: socket_echo IF ADDR:PORT [CORE]...".into());
    };
    let cores: Vec<usize> = cores.iter().map(|core| core.parse()).collect::<Result<_, _>>()?;
    let config = RuntimeConfig {
        interfaces: vec![InterfaceConfig::named(interface)],
        cores: if cores.is_empty() { vec![0] } else { cores },
        ..RuntimeConfig::default()
    };
    let (sockets, service) = Sockets::new(SocketConfig::default());
    let (runtime, presence) = Host::new(service).start(&config)?;
    let listener = sockets.listen_tcp(at.as_str())?;
    println!("ready");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || echo(stream));
        }
    });
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || sender.send(()).unwrap_or_default())?;
    receiver.recv()?;
    drop(presence);
    println!("{:#?}", runtime.stop()?);
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut room = [0; 65_536];
    while let Ok(n) = stream.read(&mut room)
        && n > 0
        && std::io::Write::write_all(&mut stream, &room[..n]).is_ok()
    {}
    // The peer may have gone.
    let _ = stream.shutdown(Shutdown::Write);
}
