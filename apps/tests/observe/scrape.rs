//! A scraper: asks for the page and takes it apart.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use tailwater_lab::Namespace;

/// Where tests serve metrics; each has a namespace of its own.
pub(crate) const ADDRESS: &str = "127.0.0.1:9464";

/// Name and labels of a sample.
pub(crate) type Key = (String, BTreeMap<String, String>);

/// All samples of a page.
pub(crate) type Samples = BTreeMap<Key, f64>;

/// The page in Prometheus's text format.
pub(crate) fn scrape(namespace: &Namespace) -> Samples {
    let answer = get(namespace, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let samples: Vec<(Key, f64)> = lines.map(sample).collect();
    let count = samples.len();
    let samples: Samples = samples.into_iter().collect();
    assert_eq!(samples.len(), count, "a sample is there twice:\n{page}");
    samples
}

/// What the server says to a request.
pub(crate) fn get(namespace: &Namespace, request: &str) -> String {
    let ask = || {
        let mut connection = TcpStream::connect(ADDRESS).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    namespace.enter(ask).unwrap()
}

/// `NAME{LABEL="VALUE",...} NUMBER`
fn sample(line: &str) -> (Key, f64) {
    let (key, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
    ((name.to_owned(), parse_labels(labels.strip_suffix('}').unwrap())), value.parse().unwrap())
}

fn parse_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut letters = rest.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => {
                    value.push(letters.next().map(|(_, letter)| if letter == 'n' { '\n' } else { letter }).unwrap())
                }
                (_, letter) => value.push(letter),
            }
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = &rest[end + 1..];
    }
    labels
}

#[test]
fn samples_are_read_with_all_their_labels() {
    let ((name, labels), value) = sample(r#"x_total{a="1",b="say \"hi\", \\n"} 2.5"#);
    assert_eq!((name.as_str(), value), ("x_total", 2.5));
    assert_eq!(labels["a"], "1");
    assert_eq!(labels["b"], r#"say "hi", \n"#);
}
