//! CPU time per request of the gateway without a collector, with one that gets one request in a
//! hundred, and with one that gets all. All run in turns; the medians and the ratios to the first
//! are printed. Making and sending the spans is counted in.
//!
//! `make bench`

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use harness::{
    Load, call, free_address, measure, median, serve, start_upstream, tokens, wait_for,
    write_configuration,
};

const ROUNDS: usize = 9;
const REQUESTS: usize = 40_000;
const PEERS: [(&str, Option<&str>); 3] =
    [("without", None), ("1 %", Some("0.01")), ("100 %", Some("1"))];

/// A collector over HTTP that takes everything unread.
fn start_collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut got = Vec::new();
                let mut space = vec![0; 256 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut space) {
                    got.extend_from_slice(&space[..count]);
                    let Some(end) = got.windows(4).position(|at| at == b"\r\n\r\n") else {
                        continue;
                    };
                    let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
                    let length = head.split("content-length: ").nth(1).unwrap();
                    let length: usize = length.lines().next().unwrap().parse().unwrap();
                    if got.len() == end + 4 + length {
                        got.clear();
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    address
}

fn main() {
    let (upstream, collector) = (start_upstream(), start_collector());
    let folders = PEERS.map(|_| tempfile::tempdir().unwrap());
    let peers: Vec<_> = PEERS
        .iter()
        .zip(&folders)
        .map(|((_, sample), folder)| {
            let address = free_address();
            let telemetry = sample.map_or_else(String::new, |sample| {
                format!(
                    "\ntelemetry: {{ otlp: {{ endpoint: 'http://{collector}', protocol: http, \
                     sample: {sample} }} }}"
                )
            });
            let more = format!("decision_log: off{telemetry}");
            write_configuration(folder.path(), address, upstream, &more);
            let process = serve(folder.path(), &[]);
            wait_for(address);
            let calls: Vec<_> = tokens(address, "bench", 1).iter().map(|it| call(it)).collect();
            (address, process, calls)
        })
        .collect();
    let mut seen = PEERS.map(|_| (Vec::new(), Vec::new()));
    for round in 0..=ROUNDS {
        let costs: Vec<f64> = peers
            .iter()
            .map(|(address, process, requests)| {
                let expect = "HTTP/1.1 200";
                let load = Load { requests, first: 0, count: REQUESTS, expect };
                measure(process, *address, &load)
            })
            .collect();
        // The first one warms up.
        for (cost, (costs_seen, ratios)) in costs.iter().zip(&mut seen).filter(|_| round > 0) {
            costs_seen.push(*cost);
            ratios.push(cost / costs[0]);
        }
        println!("round {round}: {costs:.2?} µs of CPU a request");
    }
    println!("{ROUNDS} rounds of {REQUESTS} requests, medians:");
    for ((name, _), (mut costs, mut ratios)) in PEERS.iter().zip(seen) {
        println!(
            "{name}: {:.2} µs of CPU a request, {:.3} times that without (from {:.3} to {:.3})",
            median(&mut costs),
            median(&mut ratios),
            ratios.first().unwrap(),
            ratios.last().unwrap()
        );
    }
}
