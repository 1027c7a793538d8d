//! What the gate costs: CPU time per request of the gateway with every check on and a cached token,
//! against a bare pingora proxy under the same load, and against itself with a candidate set judged
//! in parallel (`serve --shadow`), in turns in one run. Prints the medians and the ratios round by
//! round.
//!
//! `cargo bench --bench forwarding`

mod harness;

use std::net::SocketAddr;
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
    let bare_process = Process(
        Command::new(std::env::current_exe().unwrap())
            .args(["--bare", &bare.to_string(), &upstream.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_for(gateway);
    wait_for(bare);
    wait_for(shadowed);
    let known = |address| tokens(address, "bench", 1).iter().map(|token| call(token)).collect();
    let (token, shadowed_token): (Vec<_>, Vec<_>) = (known(gateway), known(shadowed));
    let load = |requests| Load { requests, first: 0, count: REQUESTS, expect: "HTTP/1.1 200" };
    let (load_token, load_shadowed) = (load(&token), load(&shadowed_token));
    let (mut ratios, mut shadow_ratios) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs, mut with_shadow) = (Vec::new(), Vec::new(), Vec::new());
    load_token.run(gateway);
    load_token.run(bare);
    load_shadowed.run(shadowed);
    for round in 1..=ROUNDS {
        let gate = measure(&gateway_process, gateway, &load_token);
        let plain = measure(&bare_process, bare, &load_token);
        let shadow = measure(&shadowed_process, shadowed, &load_shadowed);
        println!(
            "round {round}: gateway {gate:.1} µs, bare pingora {plain:.1} µs, with a candidate \
                {shadow:.1} µs of CPU a request, \
             ratios {:.3} and {:.3}",
            gate / plain,
            shadow / gate
        );
        shadow_ratios.push(shadow / gate);
        with_shadow.push(shadow);
        ratios.push(gate / plain);
        ours.push(gate);
        theirs.push(plain);
    }
    println!(
        "median: gateway {:.1} µs, bare pingora {:.1} µs, ratio {:.3} ({ROUNDS} rounds of {} \
            requests)",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios),
        REQUESTS
    );
    println!(
        "median: with a candidate {:.1} µs, ratio to the gateway {:.3}",
        median(&mut with_shadow),
        median(&mut shadow_ratios)
    );
}
