//! HTTP as others speak it: compressed answers, Java, gRPC, and what h2spec asks of a server.
#![allow(clippy::indexing_slicing)]

use std::process::Command;

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients;
use chaperone_e2e::http::{Api, RULES, Server};
use serde_json::Value;
use xtask::drivers;
use xtask::process::Scratch;

/// Answers as its path says: `/open/br` in that coding, `/open/none` in none.
const COMPRESSING: &str = r#"
const zlib = require('zlib');
const codings = {gzip: zlib.gzipSync, deflate: zlib.deflateSync, br: zlib.brotliCompressSync, zstd: zlib.zstdCompressSync};
const customers = Array.from({length: 2000}, (_, id) => ({id, email: `ada${id}@raw.example`, note: 'né'.repeat(id % 40)}));
const body = Buffer.from(JSON.stringify({customers}));
require('http').createServer((request, response) => {
  const coding = request.url.split('/').pop();
  const fields = {'content-type': 'application/json', 'etag': '"1"'};
  if (codings[coding]) fields['content-encoding'] = coding;
  const bytes = codings[coding] ? codings[coding](body) : body;
  if (Number(request.headers['x-length'] || 1)) fields['content-length'] = bytes.length;
  response.writeHead(200, fields);
  for (let at = 0; at < bytes.length; at += 777) response.write(bytes.subarray(at, at + 777));
  response.end();
}).listen(Number(process.argv[process.argv.length - 1]), '127.0.0.1');
"#;

#[test]
fn masked_json_stays_valid_in_every_coding() -> Result<()> {
    let mut node = drivers::node("node");
    node.args(["-e", COMPRESSING, "--"]);
    let server = Server::run(node)?;
    let api = Api::ruled(server.port(), RULES)?;
    api.guardrails(
        "
    masking:
    - {name: email, jsonPaths: [\"$..email\"], strategy: Redact}",
    )?;
    let _sidecar = api.start()?;
    for coding in ["none", "gzip", "deflate", "br", "zstd"] {
        for length in ["0", "1"] {
            let field = format!("x-length: {length}");
            let path = format!("/open/{coding}");
            let (status, body) = api.curl(&path, &["--compressed", "-H", &field])?;
            ensure!(status == 200, "{coding}: {status} {body}");
            let found: Value =
                serde_json::from_str(&body).with_context(|| format!("{coding}: no JSON"))?;
            let customers = found["customers"].as_array().context("no customers")?;
            ensure!(customers.len() == 2000, "{coding}: {}", customers.len());
            for (id, customer) in customers.iter().enumerate() {
                ensure!(
                    customer["id"] == id && customer["email"] == "[masked]",
                    "{coding}: {customer}"
                );
                let note = customer["note"].as_str().unwrap_or_default();
                ensure!(note == "né".repeat(id % 40), "{coding}: {customer}");
            }
        }
    }
    api.world.verify()
}

/// `java.net.http` by its own default, which is HTTP/2 with an offer to leave HTTP/1.1 for it.
const JAVA: &str = r#"
import java.net.URI;
import java.net.http.*;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.*;
import java.util.concurrent.CompletableFuture;

public class Main {
    public static void main(String[] arguments) throws Exception {
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            HttpRequest.Builder open = HttpRequest.newBuilder(URI.create(arguments[0] + "/open/a"));
            for (int n = 0; n < 3; n++) {
                String body = client.send(open.copy().GET().build(), BodyHandlers.ofString()).body();
                if (!body.contains("\"path\":\"/open/a\"")) throw new Exception(body);
                body = client.send(open.copy().POST(BodyPublishers.ofString("hello")).build(), BodyHandlers.ofString()).body();
                if (!body.contains("\"length\":5")) throw new Exception(body);
            }
            List<CompletableFuture<HttpResponse<String>>> many = new ArrayList<>();
            for (int n = 0; n < 20; n++) many.add(client.sendAsync(open.copy().GET().build(), BodyHandlers.ofString()));
            for (CompletableFuture<HttpResponse<String>> one : many) {
                if (one.get().statusCode() != 200) throw new Exception(one.get().body());
            }
            HttpResponse<String> denied = client.send(
                HttpRequest.newBuilder(URI.create(arguments[0] + "/closed")).build(), BodyHandlers.ofString());
            if (denied.statusCode() != 403 || !denied.body().contains("NotCovered")) throw new Exception(denied.body());
        }
        System.out.println("fine");
    }
}
"#;

#[test]
fn the_http_client_of_java_works_unmodified() -> Result<()> {
    let server = Server::start()?;
    let api = Api::ruled(server.port(), RULES)?;
    let _sidecar = api.start()?;
    let scratch = Scratch::new("java-http")?;
    let source = scratch.path().join("Main.java");
    std::fs::write(&source, JAVA)?;
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .arg(&source)
        .arg(api.url(""));
    let said = clients::run(java, "")?;
    ensure!(said.out.trim() == "fine", "{}", said.all());
    api.world.verify()
}

fn go_grpc(words: &[&str]) -> Result<Command> {
    let mut command = Command::new(drivers::prepared("go-grpc")?.join("main"));
    command.args(words);
    Ok(command)
}

#[test]
fn grpc_of_go_calls_streams_and_is_denied_in_its_own_words() -> Result<()> {
    let server = Server::run(go_grpc(&["serve"])?)?;
    let api = Api::ruled(
        server.port(),
        "
  - {name: calls, action: Allow, http: {methods: [POST], paths: [\"/grpc.testing.TestService/*\"]}}
  - {name: none, action: Deny, http: {methods: [POST], paths: [/grpc.testing.TestService/UnimplementedCall]}, message: Nobody may.}",
    )?;
    let _sidecar = api.start()?;
    let address = format!("127.0.0.1:{}", api.world.port());
    let said = clients::run(go_grpc(&["calls", &address])?, "")?.ok()?;
    ensure!(said.lines().count() == 5, "{said}");
    let said = clients::run(go_grpc(&["denied", &address])?, "")?.ok()?;
    ensure!(
        said.starts_with("PermissionDenied DeniedByRule: ") && said.contains("Nobody may."),
        "{said}"
    );
    api.world.verify()
}

/// The listener's HTTP/2, asked by h2spec: none of its cases fails, so none has to be explained.
#[test]
fn h2spec_finds_nothing_wrong() -> Result<()> {
    let server = Server::start()?;
    let api = Api::ruled(server.port(), RULES)?;
    let _sidecar = api.start()?;
    let port = api.world.port().to_string();
    let said = clients::run(go_grpc(&["h2spec", &port])?, "")?.ok()?;
    let tried: usize = said
        .lines()
        .filter_map(|line| line.strip_prefix("TRIED "))
        .flat_map(|line| line.split(' ').skip(1))
        .filter_map(|count| count.parse::<usize>().ok())
        .sum();
    ensure!(tried > 140, "only {tried} cases were tried: {said}");
    ensure!(!said.contains("FAILED "), "{said}");
    api.world.verify()
}
