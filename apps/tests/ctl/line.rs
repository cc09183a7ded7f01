//! The control socket, spoken by hand.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::DEADLINE;

/// A connection to a running command.
pub(crate) struct Line(BufReader<UnixStream>);

impl Line {
    pub(crate) fn to(socket: &Path) -> Self {
        let connection = UnixStream::connect(socket).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(connection))
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Reads a line; empty at the end.
    pub(crate) fn read(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn ask_raw(&mut self, request: &str) -> Value {
        self.write(format!("{request}\n").as_bytes());
        let line = self.read();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?} to {request}"))
    }

    /// Asks; `ok` and `error` as they come.
    pub(crate) fn ask(&mut self, request: Value) -> Value {
        let mut request = request;
        request["version"] = 1.into();
        self.ask_raw(&request.to_string())
    }

    /// Changes the graph; what the process says.
    pub(crate) fn try_change(&mut self, operations: Value) -> Value {
        self.ask(json!({ "op": "change", "operations": operations }))
    }

    /// Changes the graph, successfully; the stalls in ns.
    pub(crate) fn change(&mut self, operations: Value) -> Vec<u64> {
        let answer = self.try_change(operations.clone());
        let stalls = answer["ok"]["stalls"].as_array().unwrap_or_else(|| panic!("{operations}: {answer}"));
        stalls.iter().map(|stall| stall["stall_ns"].as_u64().unwrap()).collect()
    }

    /// Version and graph.
    pub(crate) fn dump(&mut self) -> Value {
        self.ask(json!({ "op": "dump" }))["ok"].clone()
    }
}
