//! What is compared where one client asks one server: the servers.

/// A server, and where its receive work runs.
pub(super) struct Contender<S> {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) server: S,
    /// In a NAPI thread on the server's core; otherwise in the softirq that the client's sending raises, on its core.
    pub(super) napi_thread: bool,
}

impl<S: Copy> Contender<S> {
    pub(super) const fn new(name: &'static str, about: &'static str, server: S) -> Self {
        Self { name, about, server, napi_thread: false }
    }

    pub(super) const fn with_napi_thread(self) -> Self {
        Self { napi_thread: true, ..self }
    }

    /// Where the receive work runs, in words.
    pub(super) fn setting(&self) -> &'static str {
        match self.napi_thread {
            true => "receive work in a NAPI thread on the server's core",
            false => "receive work in a softirq on the client's core",
        }
    }
}

/// Names and descriptions.
pub(super) fn names<S>(contenders: &[Contender<S>]) -> Vec<(String, String)> {
    contenders.iter().map(|contender| (contender.name.to_owned(), contender.about.to_owned())).collect()
}
