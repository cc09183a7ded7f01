//! curl downloads from our server.

use tailwater_lab::Lab;

use crate::peer::*;

/// Over both families, between two workers on two queues.
fn curl_downloads(mtu: u32) {
    let lab = Lab::pair(2, mtu).unwrap();
    let server = serve(&lab, "--cores 0,1 --listen 0.0.0.0:80 --listen [::]:80");
    let len: u64 = if full() { 1 << 30 } else { 64 << 20 };
    let folder = Folder::new(&format!("curl-{mtu}"));
    let expected = pattern_sha256(len);
    for host in ["10.1.0.1", "[fd00:1::1]"] {
        let file = folder.file("got");
        let url = format!("http://{host}/bytes/{len}");
        let said =
            lab.client().program("curl").args(["-sS", "-g", "-w", "%{speed_download}", "-o"]).arg(&file).arg(&url);
        let speed: f64 = said.run(TRANSFER).unwrap().trim().parse().unwrap();
        println!("{url} at MTU {mtu}: {:.0} Mbit/s", speed * 8.0 / 1e6);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), len);
        assert_eq!(file_sha256(&file), expected, "{url} at MTU {mtu}");
    }
    let report = stop(server);
    assert_eq!(counter(&report, "http_body_bytes"), 2 * len);
    assert_eq!((counter(&report, "http_requests"), counter(&report, "http_errors")), (2, 0));
}

#[test]
fn curl_gets_a_large_body_with_the_right_hash_over_both_families() {
    curl_downloads(1_500);
}

#[test]
fn curl_gets_a_large_body_in_jumbo_segments_too() {
    curl_downloads(9_000);
}

#[test]
fn curl_keeps_its_connection_and_resumes_a_download() {
    let lab = Lab::pair(1, 1500).unwrap();
    let folder = Folder::new("curl-resume");
    std::fs::create_dir(folder.file("site")).unwrap();
    let whole = folder.fill("site/file.bin", 3_000_000);
    let server = serve(&lab, &format!("--listen 10.1.0.1:8080 --root {}", folder.file("site").display()));
    let url = "http://10.1.0.1:8080/file.bin";
    let part = folder.file("part");
    let curl = |words: &[&str]| lab.client().program("curl").args(["-sS"]).args(words).run(TRANSFER).unwrap();
    curl(&["-r", "0-999999", "-o", part.to_str().unwrap(), url]);
    curl(&["-C", "-", "-o", part.to_str().unwrap(), url]);
    assert_eq!(file_sha256(&part), file_sha256(&whole));
    let codes = curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_code} ", url, "http://10.1.0.1:8080/none"]);
    assert_eq!(codes.trim(), "200 404");
    let traversal = curl(&["--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "http://10.1.0.1:8080/../part"]);
    assert_eq!(traversal.trim(), "404");
    let report = stop(server);
    assert_eq!(counter(&report, "http_requests"), 5);
    assert_eq!(counter(&report, "http_connections"), 4, "two of the requests share a connection");
}
