//! A worker's places for ports: their number stays, ports come and go between two turns.

use super::batching::BatchBound;
use super::{Worker, turn};
use crate::clock;
use crate::graph::Seat;
use crate::port::Port;

/// Bursts taken from the receive ring of a port that leaves: more than the largest ring holds. Nothing new arrives there.
const FAREWELL_BURSTS_MAX: u32 = 256;

/// Places up to the last that is taken.
pub(super) fn occupied(ports: &[Box<dyn Port>]) -> usize {
    ports.iter().rposition(|port| !port.name().is_empty()).map_or(0, |last| last + 1)
}

impl Worker {
    /// Exchanges the port in a place. What the one that goes has received is dealt with first.
    pub(super) fn reseat(&mut self, seat: &mut Seat) {
        for _ in 0..FAREWELL_BURSTS_MAX {
            let now_ns = clock::now_ns();
            if self.receive(seat.at, now_ns) == 0 {
                break;
            }
            self.graph.run(&mut turn(now_ns, &mut self.pool, &mut self.tally));
            self.send(self.ports.len(), clock::now_ns());
        }
        let place = &mut self.ports[seat.at];
        self.waiting.exchange(place.as_ref(), seat.port.as_ref());
        self.tally.departed.add(&place.counters());
        self.tally.departed.subtract(&seat.port.counters());
        // What still waits is for a port that may not.
        self.graph.set_completes_sums(seat.at, false);
        std::mem::swap(place, &mut seat.port);
        self.bounds[seat.at] = BatchBound::default();
        self.occupied = occupied(&self.ports);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::block::{Registry, Services};
    use crate::frame::{Batch, Pool, Region, RegionConfig};
    use crate::graph::{EGRESS, Graph, GraphSpec, INGRESS, Plan, Seat};
    use crate::ledger::Ledger;
    use crate::port::memory::MemoryPort;
    use crate::port::{Port, Vacant};
    use crate::worker::{DEPARTED, Idle, Worker, WorkerConfig};

    /// A worker with port `a` and an empty place, which sends every packet back out of the port it came in by.
    fn worker(region: &Arc<Region>, a: MemoryPort) -> Worker {
        let names = ["a".to_owned(), String::new()];
        let spec = GraphSpec::default().edge(INGRESS, EGRESS);
        let graph = Graph::build(&spec, &Registry::builtin(), &Services::default(), &names).unwrap();
        let ports: Vec<Box<dyn Port>> = vec![Box::new(a), Box::new(Vacant::default())];
        let config = WorkerConfig { number: 0, core: None, idle: Idle::Spin };
        Worker::new(config, ports, graph, Pool::new(Arc::clone(region))).unwrap()
    }

    /// Has the worker perform it, and returns it.
    fn perform(worker: &mut Worker, plan: Plan) -> Plan {
        assert!(worker.control().propose(Box::new(plan)).is_ok());
        assert!(!worker.serve());
        *worker.control().finished().unwrap()
    }

    fn put(outside: &mut MemoryPort, pool: &mut Pool, count: usize) {
        let mut batch = Batch::default();
        (0..count).for_each(|_| batch.push(pool.allocate_copy(&[0; 60]).unwrap()));
        assert_eq!(outside.transmit(pool, &mut batch), count);
        outside.flush(pool);
    }

    fn take(outside: &mut MemoryPort, pool: &mut Pool) -> usize {
        let mut batch = Batch::default();
        let count = outside.receive(pool, &mut Ledger::default(), &mut batch, 64);
        batch.drain().for_each(|frame| pool.release(frame));
        count
    }

    #[test]
    fn a_port_joins_and_leaves_with_every_packet_and_frame_accounted_for() {
        let region = Region::in_process(RegionConfig { chunks: 256, ..RegionConfig::default() }).unwrap();
        let (a, mut outside_a) = MemoryPort::pair(&region, ["a", "out"], 64);
        let (mut b, mut outside_b) = MemoryPort::pair(&region, ["b", "out"], 64);
        let (mut worker, mut pool) = (worker(&region, a), Pool::new(Arc::clone(&region)));
        b.set_number(1);
        assert_eq!(worker.occupied, 1);

        let joined = perform(&mut worker, Plan::of_seats(vec![Seat { at: 1, port: Box::new(b) }]));
        assert!(joined.seats[0].port.name().is_empty() && worker.occupied == 2);
        put(&mut outside_b, &mut pool, 2);
        put(&mut outside_a, &mut pool, 1);
        worker.turn(1);
        assert_eq!((take(&mut outside_b, &mut pool), take(&mut outside_a, &mut pool)), (2, 1));

        // What lies in the ring of a port that leaves is dealt with first.
        put(&mut outside_b, &mut pool, 3);
        let left = perform(&mut worker, Plan::of_seats(vec![Seat { at: 1, port: Box::new(Vacant::default()) }]));
        assert_eq!((take(&mut outside_b, &mut pool), worker.occupied), (3, 1));
        let report = worker.report();
        let names: Vec<&str> = report.ports.iter().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["a", DEPARTED]);
        let departed = report.ports[1].counters;
        assert_eq!((departed.rx_packets, departed.tx_packets, report.imbalance()), (5, 5, 0));

        // Performed once more, the plan is undone: the port is back, and has not departed.
        let undone = perform(&mut worker, left);
        assert!(!undone.done);
        let report = worker.report();
        let names: Vec<&str> = report.ports.iter().map(|port| port.name.as_str()).collect();
        assert_eq!((names, report.imbalance()), (vec!["a", "b"], 0));
        drop((worker.close(), outside_a, outside_b, joined, undone, pool));
        assert_eq!(region.at_home(), region.chunks());
    }
}
