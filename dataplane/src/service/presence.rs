//! What makes the host present besides packets: reserved ports, and the thread that follows the kernel.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::mailbox::Questions;
use super::reservation::Reservation;

/// Ends with its value; drop it before or after the runtime stops.
#[derive(Default)]
pub struct Presence {
    pub(super) reservations: Vec<Reservation>,
    pub(super) follower: Option<(Arc<Questions>, JoinHandle<()>)>,
    pub(super) notes: Vec<String>,
}

impl Presence {
    /// What was arranged, one line each.
    pub fn describe(&self) -> &[String] {
        &self.notes
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.reservations.clear();
        if let Some((questions, thread)) = self.follower.take() {
            questions.stop();
            if thread.join().is_err() {
                tracing::error!("the thread that follows the kernel ended with a panic");
            }
        }
    }
}
