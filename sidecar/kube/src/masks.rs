//! Where in an answer the objects are, and what of a Secret is masked.

use chaperone_policy::{ApiRequest, JsonPath, Masking, RuleRef, Strategy};

/// What kubectl keeps of an object as it was applied, the data of a Secret too (Kubernetes,
/// Declarative Management of Kubernetes Objects Using Configuration Files).
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The rule that a Secret's masks are told by.
const SECRET_DATA: &str = "secret-data";
/// And the masks of what an error could quote.
const QUOTED: &str = "quoted-in-errors";

/// Whether the answer holds Secrets.
pub fn is_secret(request: &ApiRequest) -> bool {
    request.group.is_empty() && request.resource == "secrets"
}

/// Whether bodies are objects: not logs, not what goes through a proxy or a command.
pub fn holds_objects(request: &ApiRequest) -> bool {
    let sub = request.subresource.as_str();
    !request.resource.is_empty()
        && !matches!(sub, "log" | "proxy" | "exec" | "attach" | "portforward")
}

/// The masks of the bodies of a request: what the policy says of an object applies to each one in
/// a list, a table and a watch as well, and the data of Secrets is masked whatever it says.
pub fn of(request: &ApiRequest, masking: &Masking) -> Masking {
    if !holds_objects(request) {
        return masking.without_places();
    }
    let objects = objects();
    let masks = masking.inside(&objects);
    match is_secret(request) {
        true => masks.with_places(&by_us(SECRET_DATA), &secret_places(&objects)),
        false => masks,
    }
}

/// These masks of a request, and those of a Status that says why it failed: the API server quotes whole
/// objects in it (`"" is invalid: patch: Invalid value: …`), and webhooks whatever they like. `None`:
/// nothing is masked that it could quote.
pub fn of_errors(request: &ApiRequest, masks: &Masking) -> Option<Masking> {
    if !holds_objects(request) || !masks.has_json_paths() {
        return None;
    }
    let root = JsonPath::root;
    let words = [
        root().member("message"),
        root()
            .member("details")
            .member("causes")
            .each()
            .member("message"),
    ];
    let words = words.map(|path| (path, Strategy::Redact, false));
    Some(masks.clone().with_places(&by_us(QUOTED), &words))
}

/// An object alone, in a list, in a watch, in a table, and in a watch of tables (Kubernetes API
/// Concepts).
fn objects() -> [JsonPath; 5] {
    let object = || JsonPath::root();
    let row = |table: JsonPath| table.member("rows").each().member("object");
    [
        object(),
        object().member("items").each(),
        object().member("object"),
        row(object()),
        row(object().member("object")),
    ]
}

fn secret_places(objects: &[JsonPath]) -> Vec<(JsonPath, Strategy, bool)> {
    let root = JsonPath::root;
    let inside = [
        (root().member("data").each(), Strategy::Redact, true),
        (root().member("stringData").each(), Strategy::Redact, false),
        // Nothing stands for it, since kubectl reads it as JSON; and as an empty text, since clients of
        // typed languages take no null among annotations.
        (
            root()
                .member("metadata")
                .member("annotations")
                .member(LAST_APPLIED),
            Strategy::Null,
            true,
        ),
    ];
    let mut places: Vec<_> = objects
        .iter()
        .flat_map(|object| {
            let of = |(path, strategy, base64): &(JsonPath, Strategy, bool)| {
                (object.join(path), *strategy, *base64)
            };
            inside.iter().map(of).collect::<Vec<_>>()
        })
        .collect();
    // Of a JSON patch (RFC 6902), which only a request holds.
    places.push((root().each().member("value"), Strategy::Redact, false));
    places
}

fn by_us(rule: &str) -> RuleRef {
    RuleRef {
        policy: "chaperone".to_owned(),
        rule: rule.to_owned(),
        generation: 0,
        digest: String::new(),
    }
}
