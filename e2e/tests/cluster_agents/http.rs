//! An agent and an HTTPS API, with nothing of ours in either.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::clients::Transcript;
use chaperone_e2e::cluster::auditor::{plugin, verified};
use chaperone_e2e::cluster::chaperone::{DATABASES, RAW, Shop, operator_logs};
use chaperone_e2e::cluster::{Kubectl, image, unavailable};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use xtask::image::ready_made::{NGINX, ReadyMade};
use xtask::needs::{self, Need};

/// The API's own name, as an agent would write it into its configuration.
const HOST: &str = "api.databases.svc.cluster.local";
/// What the API asks for, and no agent has.
const TOKEN: &str = "Bearer only-the-sidecar-knows";

const RULES: &str = "
  - {name: read, action: Allow, http: {methods: [GET, HEAD], paths: ['/v1/customers/**']}}
  - name: refunds
    action: RequireApproval
    http: {methods: [POST], paths: [/v1/refunds]}
    approval: {approvers: {groups: [dba]}, quorum: 1, timeout: 0s, validFor: 15m}";

const SERVER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: api-server}
data:
  nginx.conf: |
    pid /tmp/pid;
    error_log /dev/stderr;
    events {}
    http {
      log_format seen '$request_method $request_uri $http_host $server_protocol "$http_authorization"';
      access_log /dev/stdout seen;
      client_body_temp_path /tmp/body;
      proxy_temp_path /tmp/proxy;
      fastcgi_temp_path /tmp/fastcgi;
      uwsgi_temp_path /tmp/uwsgi;
      scgi_temp_path /tmp/scgi;
      default_type application/json;
      server {
        listen 8443 ssl http2;
        ssl_certificate /tls/tls.crt;
        ssl_certificate_key /tls/tls.key;
        if ($http_authorization != "TOKEN") { return 401 '{"error": "who are you?"}'; }
        location /v1/customers/ { return 200 '{"name": "Ada", "email": "RAW"}'; }
        location /v1/refunds { return 200 '{"refunded": true}'; }
        location / { return 200 '{"reached": true}'; }
      }
    }
---
apiVersion: v1
kind: Secret
metadata: {name: api-agent}
stringData: {token: TOKEN}
---
apiVersion: v1
kind: Pod
metadata: {name: api, labels: {app: api}}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: nginx
    image: IMAGE
    args: [-c, /etc/nginx/nginx.conf]
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1, failureThreshold: 30}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: conf, mountPath: /etc/nginx}, {name: tls, mountPath: /tls}]
  volumes: [{name: conf, configMap: {name: api-server}}, {name: tls, secret: {secretName: api-tls}}]
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 443, targetPort: 8443}]}
"#;

/// An API with a CA of its own, and a shop whose agents may use it beside the database.
struct Api {
    shop: Shop,
}

impl Api {
    fn new() -> Result<Api> {
        needs::install(&[Need::Nginx], true)?;
        let shop = Shop::new("http")?;
        image(ReadyMade::Nginx)?;
        let (ca, certificate, key) = certificates()?;
        let databases = Kubectl::admin().in_namespace(DATABASES);
        let indented = |pem: &str| pem.replace('\n', "\n    ");
        databases.apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: api-ca}}\ndata:\n  ca.crt: |\n    {}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: api-tls}}\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
            indented(&ca),
            indented(&certificate),
            indented(&key),
        ))?;
        let server = SERVER
            .replace("TOKEN", TOKEN)
            .replace("RAW", RAW)
            .replace("IMAGE", NGINX);
        databases.apply(&server)?;
        databases.ok(&["wait", "pod/api", "--for=condition=Ready", "--timeout=90s"])?;
        let api = Api { shop };
        databases.apply(&format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: Connection\nmetadata: {{name: {}}}\nspec:\n  http:\n    \
             url: https://{HOST}/v1\n    hosts: [pay.example]\n    \
             tls: {{ca: {{configMap: {{name: api-ca, key: ca.crt}}}}}}\n    \
             credential: {{header: Authorization, secret: {{name: api-agent, key: token}}}}\n  \
             consumers: {{namespaceSelector: {{matchLabels: {{team: shop}}}}}}\n  guardrails:\n    \
             masking: [{{name: pii, jsonPaths: ['$..email'], strategy: Redact}}]\n",
            api.name(),
        ))?;
        api.shop.namespace.apply(&format!(
            "apiVersion: chaperone.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{name: api}}\nspec:\n  \
             subjects: [{{serviceAccount: report-agent}}]\n  connections: [{DATABASES}/{}]\n  rules:{RULES}\n",
            api.name(),
        ))?;
        Ok(api)
    }

    /// Its Connection.
    fn name(&self) -> String {
        format!("{}-api", self.shop.namespace.name())
    }

    /// A Deployment on the API and the database; its pod.
    fn agent(&self) -> Result<String> {
        let namespace = &self.shop.namespace;
        namespace.apply(
            &self
                .shop
                .workload("Deployment", "report", "[sleep, infinity]"),
        )?;
        let both = format!(
            "chaperone.dev/connections={},{DATABASES}/{}",
            self.shop.connection_name(),
            self.name()
        );
        let annotate = [
            "annotate",
            "--overwrite",
            "deployment/report",
            both.as_str(),
        ];
        namespace.kubectl().ok(&annotate)?;
        namespace
            .wait_until_rolled_out("deployment/report")
            .with_context(operator_logs)?;
        self.shop.pod("report")
    }

    /// curl in the agent's pod, as it comes; body, an empty line, status and version.
    fn curl(&self, pod: &str, words: &[&str]) -> Result<Transcript> {
        let common = [
            "curl",
            "-sS",
            "--max-time",
            "30",
            "-w",
            "\n%{http_code} %{http_version} %{content_type}",
        ];
        let words = [&common, words].concat();
        self.shop.namespace.exec(pod, Some("agent"), &words)
    }
}

/// A CA, and a certificate of the API's by it, with its key; PEM.
fn certificates() -> Result<(String, String, String)> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &ca)?;
    Ok((ca.pem(), own.pem(), key.serialize_pem()))
}

#[test]
fn an_https_api_is_used_by_its_own_name_and_without_its_credential() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let api = Api::new()?;
    let namespace = &api.shop.namespace;
    let connection = format!("connection/{}", api.name());
    let databases = Kubectl::admin().in_namespace(DATABASES);
    namespace.until("the Connection to be Ready", || {
        let found = databases.json(&[connection.as_str()])?;
        let conditions = found["status"]["conditions"].as_array().cloned();
        let ready = conditions.into_iter().flatten().any(|one| {
            one["type"] == "Ready" && one["status"] == "True" && one["reason"] == "Ready"
        });
        ensure!(
            !ready || found["status"]["target"] == format!("https://{HOST}/v1"),
            "{found}"
        );
        Ok(ready.then_some(()))
    })?;
    let pod = api.agent()?;

    // Its own name, every other of them, both versions: nothing is set but what the injector set.
    let customers = format!("https://{HOST}/v1/customers/1");
    for words in [
        &[customers.as_str()][..],
        &["--http1.1", &customers],
        &["https://pay.example/v1/customers/1"],
        &["https://api.databases/v1/customers/1"],
    ] {
        let said = api.curl(&pod, words)?.ok();
        let said = said.with_context(|| {
            api.shop
                .namespace
                .logs(&pod, "chaperone")
                .unwrap_or_default()
        })?;
        let version = if words.contains(&"--http1.1") {
            "1.1"
        } else {
            "2"
        };
        ensure!(
            said.contains(&format!("200 {version} application/json")),
            "{words:?}: {said}"
        );
        ensure!(
            said.contains(r#"{"name": "Ada", "email": "[masked]"}"#) && !said.contains(RAW),
            "{words:?}: {said}"
        );
    }
    let script = format!(
        "import json, urllib.request, urllib.error\n\
         print(json.load(urllib.request.urlopen('{customers}'))['email'])\n\
         try: urllib.request.urlopen('https://{HOST}/v1/admin')\n\
         except urllib.error.HTTPError as error: print(error.code, json.load(error)['reason'])\n"
    );
    let said = namespace
        .exec(&pod, Some("agent"), &["python3", "-c", &script])?
        .ok()?;
    ensure!(said == "[masked]\n403 NotCovered\n", "{said}");

    // Denied in its own words, and seen on the Deployment.
    let denied = api.curl(&pod, &["-X", "DELETE", &customers])?.ok()?;
    ensure!(
        denied.contains("\"reason\": \"NotCovered\"")
            && denied.contains("403 2 application/problem+json"),
        "{denied}"
    );
    let problem = denied
        .trim_end()
        .rsplit_once('\n')
        .map_or("", |(body, _)| body);
    let problem: Value = serde_json::from_str(problem).with_context(|| denied.clone())?;
    let session = problem["session"].as_str().context("no session is named")?;
    let note = api.shop.event("report", "NotCovered")?;
    ensure!(note.contains(&pod), "{note}");

    // The target is the Connection's, encrypted as its URL says.
    for (words, why) in [
        (
            vec![
                "-k",
                "--connect-to",
                "::pay.example:443",
                "https://other.example/v1/customers/1",
            ],
            "the request is for other.example",
        ),
        (
            vec!["-H", "Host: pay.example", customers.as_str()],
            "its TLS handshake was for",
        ),
        (
            vec!["http://pay.example:443/v1/customers/1"],
            "the request came unencrypted",
        ),
    ] {
        let said = api.curl(&pod, &words)?.ok()?;
        ensure!(
            said.contains("421 ") && said.contains(why),
            "{words:?}: {said}"
        );
    }

    approved_once(&api, &pod)?;
    recorded(&api, &pod, session)
}

/// A held request runs once somebody patched its ApprovalRequest.
fn approved_once(api: &Api, pod: &str) -> Result<()> {
    let shop = &api.shop;
    shop.let_dba_approve()?;
    let url = format!("https://{HOST}/v1/refunds");
    let refund = |amount: &str| api.curl(pod, &["-d", amount, &url])?.ok();
    let held = refund("amount=5")?;
    ensure!(
        held.contains("ApprovalPending") && held.contains("409 "),
        "{held}"
    );
    let name = shop.pending()?;
    ensure!(held.contains(&name), "{held}");
    let object = format!("approvalrequest/{name}");
    let yes = r#"{"spec":{"decision":{"verdict":"Approve","reason":"ticket 42"}}}"#;
    shop.approver("ada")
        .ok(&["patch", &object, "--type=merge", "-p", yes])?;
    shop.namespace.until("the grant", || {
        let said = refund("amount=5")?;
        ensure!(
            said.contains("409 ") || said.contains("{\"refunded\": true}"),
            "{said}"
        );
        Ok(said.contains("200 ").then_some(()))
    })?;
    let other = refund("amount=6")?;
    ensure!(other.contains("409 "), "another amount: {other}");
    Ok(())
}

/// What came is in the evidence, and the credential nowhere but at the API.
fn recorded(api: &Api, pod: &str, denied: &str) -> Result<()> {
    let namespace = &api.shop.namespace;
    let environment = namespace.exec(pod, Some("agent"), &["env"])?.ok()?;
    ensure!(!environment.contains(TOKEN), "{environment}");
    let databases = Kubectl::admin().in_namespace(DATABASES);
    let seen = databases.ok(&["logs", "api"])?;
    ensure!(
        seen.contains(&format!("POST /v1/refunds {HOST} HTTP/2.0 \"{TOKEN}\"")),
        "{seen}"
    );
    ensure!(
        !seen.contains("DELETE") && !seen.contains("admin") && !seen.contains("other.example"),
        "{seen}"
    );
    ensure!(seen.matches("POST").count() == 1, "it ran twice: {seen}");
    let connection = format!("{DATABASES}/{}", api.name());
    let sessions = namespace.until("the sessions in the log", || {
        let found = plugin(&["sessions", "--connection", &connection, "-o", "json"])?.ok()?;
        let found: Vec<Value> = serde_json::from_str(&found)?;
        let whole: Vec<String> = found
            .iter()
            .filter_map(|one| one["id"].as_str())
            .map(str::to_owned)
            .collect();
        Ok((whole.len() >= 10).then_some(whole))
    })?;
    // What comes last is in the log last, however many came before.
    let waiting = namespace.until("the request that waits in the log", || {
        let words = [
            "search",
            "refunds",
            "--connection",
            &connection,
            "-o",
            "json",
        ];
        let found: Value = serde_json::from_str(&plugin(&words)?.out).unwrap_or_default();
        let last = found.as_array().and_then(|found| found.last());
        let session = last.and_then(|hit| hit["session"].as_str());
        Ok(session.map(str::to_owned))
    })?;
    // The masked read, which came first; a request that waits; and the one that was denied.
    let mut shown = plugin(&["show", denied])?.ok()?;
    for session in [sessions.first(), Some(&waiting)].into_iter().flatten() {
        shown.push_str(&plugin(&["show", session])?.ok()?);
        shown.push_str(&plugin(&["replay", session, "--raw", "server"])?.all());
    }
    for part in ["DELETE", "NotCovered", "refunds", "[masked]"] {
        ensure!(shown.contains(part), "{part} is not in {shown}");
    }
    ensure!(!shown.contains(RAW) && !shown.contains(TOKEN), "{shown}");
    verified().map(|_| ())
}
