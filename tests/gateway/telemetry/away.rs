//! A collector that is away, busy, slow or none: requests go on, and so does the end.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::collector::{Collector, TAKEN};
use super::{end, gateway, setup};
use crate::support::{Gateway, free_address, wait_for};

/// The yaml of a collector at an address, over both protocols.
fn each(address: &str) -> [String; 2] {
    ["grpc", "http"].map(|protocol| {
        format!(
            "telemetry: {{ otlp: {{ endpoint: 'http://{address}', protocol: {protocol}, sample: 1 \
             }} }}\n"
        )
    })
}

fn dropped(gateway: &Gateway, cause: &str) -> Option<f64> {
    let series = format!("scopegate_otlp_dropped_total{{cause=\"{cause}\",signal=\"spans\"}}");
    gateway.metric(&series)
}

fn ask(gateway: &Gateway) {
    assert_eq!(gateway.get("/open/x", None).status, 200);
}

#[test]
fn a_collector_that_is_away_or_hangs_holds_up_neither_requests_nor_a_reload_nor_the_end() {
    // It takes connections, and says nothing on them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free_address();
    for address in [silent.local_addr().unwrap(), nobody] {
        for yaml in each(&address.to_string()) {
            let mut gateway = Gateway::start(&setup(&yaml));
            ask(&gateway);
            if address == nobody {
                gateway.wait_for_log(&["the collector cannot be given spans now"]);
            } else {
                wait_for("a message on its way", || silent.accept().ok());
            }
            ask(&gateway);
            assert!(gateway.reload());
            ask(&gateway);
            end(&mut gateway);
            gateway.wait_for_log(&["the traces of the last seconds could not be exported"]);
        }
    }
}

#[test]
fn whatever_answers_in_a_collectors_place_is_reported_and_what_it_was_sent_is_dropped() {
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n{}", "x".repeat(999_999));
    for (answer, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "is none of OTLP"),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "status 401"),
        ("HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (&huge, "an answer over 65,536 bytes"),
    ] {
        let collector = Collector::http();
        collector.answer(answer);
        let gateway = gateway(&collector, "sample: 1");
        ask(&gateway);
        let said = gateway.wait_for_log(&["the collector does not take spans"]);
        assert!(said.contains(why), "{why}: {said}");
        wait_for("the count", || dropped(&gateway, "rejected").filter(|count| *count >= 3.0));
        // Said once, until it is over.
        ask(&gateway);
        wait_for("the count", || dropped(&gateway, "rejected").filter(|count| *count >= 6.0));
        collector.answer(TAKEN);
        ask(&gateway);
        wait_for("the spans", || {
            gateway.metric("scopegate_otlp_sent_total{signal=\"spans\"}").filter(|sent| *sent > 0.0)
        });
        assert_eq!(gateway.log().matches("does not take spans").count(), 1);
    }
}

#[test]
fn what_speaks_another_protocol_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(&[0xff; 4096]);
            });
        }
    });
    for yaml in each(&address) {
        let mut gateway = Gateway::start(&setup(&yaml));
        ask(&gateway);
        gateway.wait_for_log(&["the collector cannot be given spans now"]);
        ask(&gateway);
        assert_eq!(dropped(&gateway, "rejected"), Some(0.0));
        end(&mut gateway);
    }
}

#[test]
fn a_busy_collector_gets_the_same_again() {
    let collector = Collector::http();
    collector
        .answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    let gateway_ = gateway(&collector, "sample: 1");
    ask(&gateway_);
    wait_for("the first try", || (collector.attempts() > 0).then_some(()));
    collector.answer(TAKEN);
    let sent = "scopegate_otlp_sent_total{signal=\"spans\"}";
    wait_for("it to be taken", || gateway_.metric(sent).filter(|sent| *sent >= 3.0));
    let spans = collector.spans();
    assert!(spans.len() >= 6 && spans.len().is_multiple_of(3), "the same spans, once for each try");
    assert!(spans.chunks(3).all(|chunk| chunk == &spans[..3]));
    assert_eq!(dropped(&gateway_, "unreachable"), Some(0.0));

    let collector = Collector::grpc();
    collector.refuse(tonic::Status::unavailable("busy"));
    collector.refuse(tonic::Status::aborted("busy"));
    let gateway_ = gateway(&collector, "sample: 1");
    ask(&gateway_);
    wait_for("it to be taken", || gateway_.metric(sent).filter(|sent| *sent >= 3.0));
    assert_eq!((collector.attempts(), collector.spans().len()), (3, 3));
    // What is not wanted is not sent again.
    collector.refuse(tonic::Status::invalid_argument("no"));
    ask(&gateway_);
    let said = gateway_.wait_for_log(&["the collector does not take spans"]);
    assert!(said.contains("code 3: no"), "{said}");
    assert_eq!((collector.attempts(), collector.spans().len()), (4, 3));
    wait_for("the count", || dropped(&gateway_, "rejected").filter(|count| *count > 0.0));
    assert_eq!(dropped(&gateway_, "rejected"), Some(3.0));
}
