//! CPU time per request of the gateway, with every check on and a cached token. It is compared with
//! a bare pingora proxy, with HAProxy and nginx without checks (if installed), and with a gateway
//! that also judges a candidate set (`serve --shadow`). All run in turns; the medians and the
//! gateway's ratio to each are printed.
//!
//! `make bench-peers`

mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{
    Load, Process, call, free_address, measure, median, serve, start_upstream, tokens, wait_for,
    write_configuration,
};
use pingora::prelude::{HttpPeer, ProxyHttp, Session};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const REQUESTS: usize = 40_000;
/// The least that pingora does: one peer, no check.
struct Bare(SocketAddr);

#[async_trait::async_trait]
impl ProxyHttp for Bare {
    type CTX = u8;

    fn new_ctx(&self) -> u8 {
        0
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the bare proxy is what the gateway is held against"
    )]
    async fn upstream_peer(&self, _: &mut Session, _: &mut u8) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

fn run_bare(listen: &str, upstream: &str) -> ! {
    let conf = ServerConf { threads: 1, work_stealing: false, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service =
        pingora::proxy::http_proxy_service(&server.configuration, Bare(upstream.parse().unwrap()));
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--bare") {
        run_bare(&arguments[at + 1], &arguments[at + 2]);
    }
    let upstream = start_upstream();
    let folder = tempfile::tempdir().unwrap();
    let (gateway, bare) = (free_address(), free_address());
    write_configuration(folder.path(), gateway, upstream, "decision_log: off");
    let gateway_process = serve(folder.path(), &[]);
    let (shadowed, other) = (free_address(), tempfile::tempdir().unwrap());
    write_configuration(other.path(), shadowed, upstream, "decision_log: off");
    let shadowed_process = serve(other.path(), &["--shadow".as_ref(), other.path().as_os_str()]);
    let known = |address| tokens(address, "bench", 1).iter().map(|token| call(token)).collect();
    wait_for(gateway);
    wait_for(shadowed);
    let (token, shadowed_token): (Vec<_>, Vec<_>) = (known(gateway), known(shadowed));
    let mut peers = vec![
        ("gateway", gateway, gateway_process, &token),
        ("gateway with a candidate", shadowed, shadowed_process, &shadowed_token),
    ];
    let own = std::env::current_exe().unwrap();
    let arguments = ["--bare", &bare.to_string(), &upstream.to_string()].map(str::to_owned);
    peers.push(("bare pingora", bare, started(&own, &arguments), &token));
    for (name, program, file, arguments) in [
        ("HAProxy", "/usr/sbin/haproxy", "haproxy.cfg", &["-f", "haproxy.cfg"][..]),
        ("nginx", "/usr/sbin/nginx", "nginx.conf", &["-c", "nginx.conf"]),
    ] {
        let (program, address) = (Path::new(program), free_address());
        if !program.exists() {
            println!("{name}: not installed, left out");
            continue;
        }
        let place = folder.path().join(file);
        std::fs::write(&place, configuration(name, address, upstream, folder.path())).unwrap();
        let arguments: Vec<String> =
            arguments.iter().map(|text| text.replace(file, &place.display().to_string())).collect();
        peers.push((name, address, started(program, &arguments), &token));
    }
    let load = |requests| Load { requests, first: 0, count: REQUESTS, expect: "HTTP/1.1 200" };
    let mut seen = vec![(Vec::new(), Vec::new()); peers.len()];
    for (_, address, _, requests) in &peers {
        wait_for(*address);
        load(requests).run(*address);
    }
    for round in 1..=ROUNDS {
        let each = peers
            .iter()
            .map(|(_, address, process, requests)| measure(process, *address, &load(requests)));
        let costs: Vec<f64> = each.collect();
        for (cost, (costs_seen, ratios)) in costs.iter().zip(&mut seen) {
            costs_seen.push(*cost);
            ratios.push(costs[0] / cost);
        }
        println!("round {round}: {costs:.1?} µs of CPU a request");
    }
    println!("{ROUNDS} rounds of {REQUESTS} requests, medians:");
    for ((name, ..), (mut costs, mut ratios)) in peers.iter().zip(seen) {
        println!(
            "{name}: {:.1} µs of CPU a request; the gateway costs {:.2} times that",
            median(&mut costs),
            median(&mut ratios)
        );
    }
}

fn started(program: &Path, arguments: &[String]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    Process(command.spawn().unwrap())
}

/// One thread, connections to the server kept, no log and no check.
fn configuration(name: &str, address: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    if name == "HAProxy" {
        return format!(
            "global\n nbthread 1\n maxconn 4096\ndefaults\n mode http\n timeout connect 5s\n \
             timeout client 60s\n timeout server 60s\n http-reuse always\nfrontend f\n bind \
             {address}\n default_backend b\nbackend b\n server s {upstream}\n"
        );
    }
    format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/pid; error_log {0}/log;\n\
         events {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests \
         1000000000; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; \
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n upstream u {{ server {upstream}; keepalive \
         256; }}\n server {{ listen {address}; location / {{ proxy_pass http://u; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n",
        folder.display()
    )
}
