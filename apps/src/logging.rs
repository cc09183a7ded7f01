//! What the libraries tell, on standard error.

use tracing_subscriber::EnvFilter;

/// Whether the environment asks for something.
pub(crate) fn is_configured() -> bool {
    std::env::var_os(EnvFilter::DEFAULT_ENV).is_some()
}

/// `RUST_LOG` decides; without it `verbose` does: warnings, then our information, then everything of ours.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "warn,tailwater=info,tailwater_dataplane=info,tailwater_xdp=info,tailwater_netlink=info",
        _ => "info,tailwater=debug,tailwater_dataplane=debug,tailwater_xdp=debug,tailwater_netlink=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}
