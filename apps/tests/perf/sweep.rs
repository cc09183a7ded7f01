//! The sweep over message sizes.

use serde_json::Value;
use tailwater_lab::Lab;

use crate::common::{DEADLINE, command};
use crate::ends::*;

#[test]
fn sweep_measures_us_and_the_kernel_in_turn_and_writes_its_files() {
    let lab = Lab::pair(1, 1500).unwrap();
    let _server = iperf3_server(&lab);
    let folder = std::env::temp_dir().join(format!("tailwater-sweep-{}", std::process::id()));
    let words = "perf -i d0 -c 10.1.0.2 --sweep --sizes 64,64K -n 1M --compare-kernel --out";
    let output = command(lab.dut(), words).arg(&folder).output(DEADLINE).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("[1/8]     64 B, tailwater sends") && stderr.contains("[8/8]  65536 B, kernel receives"));
    let sweep: Value = serde_json::from_slice(&std::fs::read(folder.join("sweep.json")).unwrap()).unwrap();
    let points = sweep["points"].as_array().unwrap();
    assert_eq!(points.len(), 8);
    assert!(points.iter().all(|point| number(point, "/goodput_bits_per_second") > 0.0), "{sweep:#}");
    for name in ["sweep-goodput.svg", "sweep-cpu.svg"] {
        let picture = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(picture.contains("tailwater sends") && picture.contains("kernel receives"), "{name}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
