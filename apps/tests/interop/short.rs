//! Thousands of short connections.

use std::io::{Read, Write};

use tailwater_lab::Lab;

use crate::nginx::{get, nginx};
use crate::peer::*;

const CLIENTS: usize = 4;
const EACH: usize = 1_250;

#[test]
fn five_thousand_connections_of_one_request_each_are_answered_by_two_workers_on_two_queues() {
    let lab = Lab::pair(2, 1500).unwrap();
    let server = serve(&lab, "--cores 0,1 --listen 0.0.0.0:80 --listen [::]:80");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let lab = &lab;
            scope.spawn(move || one_after_the_other(lab, client));
        }
    });
    let report = stop(server);
    let served = (CLIENTS * EACH) as u64;
    assert_eq!(counter(&report, "http_connections"), served);
    assert_eq!((counter(&report, "http_requests"), counter(&report, "http_errors")), (served, 0));
    assert_eq!(counter(&report, "tcp_passive_opens"), served);
    assert_eq!(counter(&report, "http_connections_failed"), 0, "{report:#}");
    let delivered = |worker: &serde_json::Value| worker["delivered"].as_u64().unwrap();
    let by_worker: Vec<u64> = report["workers"].as_array().unwrap().iter().map(delivered).collect();
    assert!(by_worker.len() == 2 && by_worker.iter().all(|&n| n > served / 4), "{by_worker:?}");
}

#[test]
fn our_client_opens_five_thousand_connections_of_one_request_each() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("short");
    std::fs::create_dir(folder.file("site")).unwrap();
    let small = folder.fill("site/small", 3_000);
    let _nginx = nginx(&lab, &folder);
    let (expected, each) = (file_sha256(&small), (CLIENTS * EACH) as u64 / 2);
    for host in ["10.1.0.2", "[fd00:1::2]"] {
        let result = get(&lab, &format!("http://{host}:8000/small -n {each} --close --sha256"));
        assert_eq!((result["answers"].as_u64(), result["connections"].as_u64()), (Some(each), Some(each)));
        assert_eq!(
            (result["bytes"].as_u64(), result["sha256"].as_str()),
            (Some(3_000 * each), Some(expected.as_str()))
        );
    }
}

fn one_after_the_other(lab: &Lab, client: usize) {
    let to = ["10.1.0.1:80", "[fd00:1::1]:80"][client % 2].parse().unwrap();
    lab.client()
        .enter(|| {
            for round in 0..EACH {
                let size = (client * EACH + round) * 7 % 5_000;
                let mut stream = std::net::TcpStream::connect_timeout(&to, ANSWER).unwrap();
                stream.set_read_timeout(Some(ANSWER)).unwrap();
                let request = format!("GET /bytes/{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).unwrap();
                let (mut expected, mut rest) = (vec![0; size], Vec::new());
                pattern(0, &mut expected);
                let (_, body) = answer(&mut stream, true);
                stream.read_to_end(&mut rest).unwrap();
                assert!(body == expected && rest.is_empty(), "{size} bytes, {} behind them", rest.len());
            }
        })
        .unwrap();
}
