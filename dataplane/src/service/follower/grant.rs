//! Ports that sockets ask for while the host runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::listener::Listener;
use super::super::ports::{Step, Wish};
use super::super::reservation::Reservation;
use super::Follower;

/// Ports of which sockets asked for, at the same time: each costs a descriptor, and entries of the program's map.
const RESERVATIONS_MAX: usize = 1_024;
/// How long a port stays ours after its last connection was closed: what the peers still say must not reach the kernel,
/// which would answer with resets (RFC 9293 §3.6.1, 2 MSL as the stack has it).
const LINGER: Duration = Duration::from_secs(60);

impl Follower {
    pub(super) fn grant_ports(&mut self) {
        let questions = Arc::clone(&self.questions);
        // Bounded by the queue.
        while let Some(Wish { step, listener, answer }) = questions.next_wish() {
            let done = match step {
                Step::Reserve => self.reserve(listener),
                Step::Register => self.register_late(listener),
                Step::Release => {
                    self.leaving.push_back((Instant::now() + LINGER, listener));
                    Ok(listener.at)
                }
            };
            // Who asked may have lost patience.
            answer.map(|answer| answer.send(done));
        }
        while let Some((_, listener)) = self.leaving.pop_front_if(|(at, _)| *at <= Instant::now()) {
            self.release(listener);
        }
    }

    fn reserve(&mut self, listener: Listener) -> io::Result<SocketAddr> {
        let at = if self.has(listener) { listener.at } else { self.take(listener)? };
        let granted = Listener { at, ..listener };
        self.leaving.retain(|(_, leaving)| *leaving != granted);
        Ok(at)
    }

    /// Whether the kernel's port is ours. A socket that was not opened after all has left its reservation and nothing else.
    fn has(&self, listener: Listener) -> bool {
        let asked_for = self.reservations.iter().find(|(held, _)| *held == listener);
        asked_for.map_or_else(|| self.listeners.contains(&listener), |(_, reservation)| reservation.is_some())
    }

    fn take(&mut self, listener: Listener) -> io::Result<SocketAddr> {
        if self.reservations.len() >= RESERVATIONS_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let reservation = match Reservation::of(listener) {
            Err(Errno::ADDRINUSE) => self.take_from_leaving(listener)?,
            reservation => reservation?,
        };
        let at = SocketAddr::new(listener.at.ip(), reservation.port()?);
        let granted = Listener { at, ..listener };
        match self.reservations.iter_mut().find(|(held, _)| *held == granted) {
            Some((_, without)) => *without = Some(reservation),
            None => self.reservations.push((granted, Some(reservation))),
        }
        Ok(at)
    }

    /// A socket that wants the port at another address does not wait for what is leaving. That keeps what comes to its
    /// connections, which may have something to send still, and gives up the kernel's port alone.
    fn take_from_leaving(&mut self, listener: Listener) -> rustix::io::Result<Reservation> {
        let leaves = |rival: Listener| self.leaving.iter().any(|(_, leaving)| *leaving == rival);
        let rivals = self.reservations.iter_mut().filter(|(held, _)| held.excludes(listener) && leaves(*held));
        let mut rivals: Vec<_> = rivals.collect();
        rivals.iter_mut().for_each(|(_, reservation)| *reservation = None);
        let reservation = Reservation::of(listener);
        if reservation.is_err() {
            rivals.iter_mut().for_each(|(held, reservation)| *reservation = Reservation::of(*held).ok());
        }
        reservation
    }

    fn register_late(&mut self, listener: Listener) -> io::Result<SocketAddr> {
        if !self.listeners.contains(&listener) {
            self.listeners.push(listener);
            if let Err(error) = self.seen_from(listener).try_for_each(|seen| self.insert(seen)) {
                self.withdraw(listener);
                return Err(io::Error::other(error));
            }
        }
        Ok(listener.at)
    }

    /// Only what was asked for: what the host had from the start it keeps.
    fn release(&mut self, listener: Listener) {
        if let Some(at) = self.reservations.iter().position(|(held, _)| *held == listener) {
            self.withdraw(listener);
            self.reservations.swap_remove(at);
        }
    }

    /// The listener at each address where the program is to know of it.
    fn seen_from(&self, listener: Listener) -> impl Iterator<Item = Listener> + use<> {
        let mut seen: Vec<Listener> = self.registered.iter().filter_map(|&address| listener.seen_at(address)).collect();
        if !listener.at.ip().is_unspecified() {
            seen.push(listener);
        }
        seen.into_iter()
    }

    fn insert(&self, Listener { transport, at }: Listener) -> Result<(), tailwater_xdp::Error> {
        self.shared.as_ref().map_or(Ok(()), |shared| shared.listeners().insert(transport, at))
    }

    fn withdraw(&mut self, listener: Listener) {
        self.listeners.retain(|known| *known != listener);
        let wanted = |seen: &Listener| self.listeners.iter().any(|other| other.covers(*seen));
        for seen in self.seen_from(listener).filter(|seen| !wanted(seen)) {
            let removed = self.shared.as_ref().map(|shared| shared.listeners().remove(seen.transport, seen.at));
            if let Some(Err(error)) = removed {
                tracing::warn!(%error, %seen, "cannot leave a listener to the kernel again");
            }
        }
    }
}
