//! HTTP: a small GET, straight to nginx, through nginx as a reverse proxy, and through the sidecar,
//! alternating in one run (performance.md). The load is h2load's.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Measured, machine, started};
use crate::nginx::Nginx;
use crate::options::Options;
use crate::process::{free_port, succeed};
use crate::workspace::{Binaries, Profile};

/// Of a KiB with its head.
const BODY: usize = 1024;

struct Work {
    name: &'static str,
    /// Connections; in HTTP/2 as many requests at a time on one.
    clients: u32,
    two: bool,
}

const WORK: [Work; 4] = [
    Work {
        name: "GET 1 KiB, HTTP/1.1, 1 at a time",
        clients: 1,
        two: false,
    },
    Work {
        name: "GET 1 KiB, HTTP/1.1, 64 connections",
        clients: 64,
        two: false,
    },
    Work {
        name: "GET 1 KiB, HTTP/2, 1 at a time",
        clients: 1,
        two: true,
    },
    Work {
        name: "GET 1 KiB, HTTP/2, 64 at a time",
        clients: 64,
        two: true,
    },
];

pub(super) fn run(options: &Options) -> Result<()> {
    let binaries = Binaries::build(Profile::Release)?;
    let body = "a".repeat(BODY);
    let server = |port: &str, version: &str, location: &str| {
        format!("  server {{ listen 127.0.0.1:{port}{version}; location / {{ {location} }} }}\n")
    };
    let answer = format!("return 200 '{body}';");
    let target = Nginx::start(&server("{port}", "", &answer))?;
    let target_two = Nginx::start(&server("{port}", " http2", &answer))?;
    let pass = "proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection '';";
    let upstream = format!(
        "  upstream target {{ server 127.0.0.1:{}; keepalive 128; }}\n",
        target.port()
    );
    let proxy = Nginx::start(&format!("{upstream}{}", server("{port}", "", pass)))?;
    let proxy_two = Nginx::start(&format!("{upstream}{}", server("{port}", " http2", pass)))?;
    let port = free_port()?;
    let (_scratch, sidecar) = started(&binaries, "bench-http", &manifest(target.port(), port))?;
    println!(
        "{}; nginx of two workers; all share the machine\n",
        machine()?
    );
    let measured = Measured::of(
        options.rounds,
        &WORK,
        |work| {
            let (direct, proxied) = match work.two {
                false => (&target, &proxy),
                true => (&target_two, &proxy_two),
            };
            let peers = [
                ("direct", direct.port()),
                ("nginx", proxied.port()),
                ("chaperone", port),
            ];
            (work.name, peers)
        },
        |port, work| {
            measure(port, work, options.seconds)
                .with_context(|| format!("the sidecar said:\n{}", sidecar.output()))
        },
    )?;
    println!("\n{}", table(&measured));
    println!(
        "durability: Written; a rule on method and path; nothing masked; no TLS on either side"
    );
    Ok(())
}

fn manifest(target: u16, listen: u16) -> String {
    format!(
        "apiVersion: chaperone.dev/v1alpha1
kind: Connection
metadata:
  name: bench-api
  namespace: bench
  annotations: {{chaperone.dev/listen-port: \"{listen}\"}}
spec:
  http: {{url: \"http://127.0.0.1:{target}\", tls: {{mode: Disable}}}}
---
apiVersion: chaperone.dev/v1alpha1
kind: AccessPolicy
metadata: {{name: bench, namespace: bench}}
spec:
  subjects: [{{serviceAccount: agent}}]
  connections: [bench-api]
  rules:
  - {{name: read, action: Allow, http: {{methods: [GET], paths: [\"/v1/**\"]}}}}
"
    )
}

struct Cell {
    /// Requests a second.
    rate: f64,
    /// Their mean time, in milliseconds.
    latency_ms: f64,
}

fn measure(port: u16, work: &Work, seconds: u32) -> Result<Cell> {
    let mut command = Command::new("h2load");
    let clients = work.clients.to_string();
    match work.two {
        false => command.args(["--h1", "-c", &clients, "-m", "1"]),
        true => command.args(["-c", "1", "-m", &clients]),
    };
    command
        .args(["-t", "1", "-D", &seconds.to_string()])
        .arg(format!("http://127.0.0.1:{port}/v1/orders/7"));
    let output = String::from_utf8_lossy(&succeed(&mut command)?.stdout).into_owned();
    let rate = output.lines().find_map(|line| {
        let (_, rest) = line.strip_prefix("finished in ")?.split_once(", ")?;
        rest.split_whitespace().next()?.parse().ok()
    });
    let failed = output
        .lines()
        .any(|line| line.starts_with("status codes:") && !line.contains(" 0 3xx, 0 4xx, 0 5xx"));
    anyhow::ensure!(!failed, "some requests failed:\n{output}");
    let latency_ms = output.lines().find_map(|line| {
        let figures = line.strip_prefix("time for request:")?;
        milliseconds(figures.split_whitespace().nth(2)?)
    });
    Ok(Cell {
        rate: rate.with_context(|| format!("no rate in:\n{output}"))?,
        latency_ms: latency_ms.with_context(|| format!("no latency in:\n{output}"))?,
    })
}

/// `1.25ms`, `800us` or `1.2s`, as h2load writes times.
fn milliseconds(text: &str) -> Option<f64> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (figure, unit) = text.split_at(at);
    let figure: f64 = figure.parse().ok()?;
    match unit {
        "us" => Some(figure / 1000.0),
        "ms" => Some(figure),
        "s" => Some(figure * 1000.0),
        _ => None,
    }
}

fn table(measured: &Measured<Cell>) -> String {
    let mut lines = vec![
        "| work (medians) | direct req/s | nginx req/s | Chaperone req/s | of direct | of nginx | added ms a request |"
            .to_owned(),
        "|---|---:|---:|---:|---:|---:|---:|".to_owned(),
    ];
    for work in &WORK {
        let rate = |peer| measured.median(work.name, peer, |cell| cell.rate);
        let latency = |peer| measured.median(work.name, peer, |cell| cell.latency_ms);
        let (direct, nginx, ours) = (rate("direct"), rate("nginx"), rate("chaperone"));
        lines.push(format!(
            "| {} | {direct:.0} | {nginx:.0} | {ours:.0} | {:.2} | {:.2} | {:+.3} |",
            work.name,
            ours / direct,
            ours / nginx,
            latency("chaperone") - latency("direct"),
        ));
    }
    lines.join("\n")
}
