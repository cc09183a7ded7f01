//! Prints what the kernel has and then what it changes, as events; `--count` prints only how many
//! routes there are and how long it took to learn them.

use std::time::Instant;

use tailwater_netlink::{Event, Limits, Mirror, Result};

fn main() -> Result<()> {
    let count_only = std::env::args().any(|argument| argument == "--count");
    let start = Instant::now();
    let mut mirror = Mirror::open(Limits::default())?;
    let mut routes = 0;
    while let Some(event) = mirror.next(None)? {
        match event {
            Event::RouteChanged(_) if count_only => routes += 1,
            Event::Resynchronised if count_only => {
                println!("{routes} routes in {:.3} s", start.elapsed().as_secs_f64());
                return Ok(());
            }
            _ if count_only => {}
            event => println!("{event:?}"),
        }
    }
    Ok(())
}
