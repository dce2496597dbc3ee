#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use chaperone_http::normal;

fn read(line: &str) -> Result<Attributes, Unfit> {
    read_with(line, &[])
}

fn read_with(line: &str, fields: &[(&str, &str)]) -> Result<Attributes, Unfit> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let target = normal::target(path, query).unwrap();
    let mut came = HeaderMap::new();
    for (name, value) in fields {
        came.append(
            name.parse::<hyper::header::HeaderName>().unwrap(),
            value.parse().unwrap(),
        );
    }
    let request = Request {
        method: method.to_owned(),
        path: target.path,
        query: target.query,
        headers: normal::joined(&came).unwrap(),
        ..Request::default()
    };
    of(&request, &target.sent, &came)
}

fn accesses(line: &str, fields: &[(&str, &str)]) -> Vec<String> {
    let read = read_with(line, fields).unwrap();
    read.accesses.iter().map(ToString::to_string).collect()
}

/// The table of the API server's own test (requestinfo_test.go), and of its documentation.
#[test]
fn requests_have_the_attributes_that_the_api_server_derives() {
    for (line, access) in [
        ("GET /api/v1/namespaces", "list on namespaces"),
        (
            "GET /api/v1/namespaces/other",
            "get on namespaces other in other",
        ),
        (
            "PUT /api/v1/namespaces/other/finalize",
            "update on namespaces/finalize other in other",
        ),
        ("GET /api/v1/namespaces/other/pods", "list on pods in other"),
        (
            "GET /api/v1/namespaces/other/pods/foo",
            "get on pods foo in other",
        ),
        (
            "HEAD /api/v1/namespaces/other/pods/foo",
            "get on pods foo in other",
        ),
        ("GET /api/v1/pods", "list on pods"),
        ("GET /api/v1/pods/", "list on pods"),
        ("GET /api/v1/pods?watch=true", "watch on pods"),
        ("GET /api/v1/pods?watch=1", "watch on pods"),
        ("GET /api/v1/pods?watch=True", "watch on pods"),
        ("GET /api/v1/pods?watch=false", "list on pods"),
        ("GET /api/v1/pods?watch=FALSE", "list on pods"),
        ("GET /api/v1/watch/pods", "watch on pods"),
        (
            "GET /api/v1/watch/namespaces/other/pods",
            "watch on pods in other",
        ),
        (
            "GET /api/v1/namespaces/other/pods?fieldSelector=metadata.name%3Dfoo",
            "list on pods foo in other",
        ),
        (
            "GET /api/v1/namespaces/other/pods?fieldSelector=metadata.name!%3Dfoo",
            "list on pods in other",
        ),
        (
            "GET /api/v1/namespaces/other/pods?fieldSelector=metadata.name%3Dfoo,x%3Dy",
            "list on pods in other",
        ),
        (
            "GET /api/v1/namespaces/other/pods/foo/log?follow=true",
            "get on pods/log foo in other",
        ),
        (
            "POST /api/v1/namespaces/other/pods",
            "create on pods in other",
        ),
        (
            "DELETE /api/v1/namespaces/other/pods",
            "deletecollection on pods in other",
        ),
        (
            "DELETE /apis/apps/v1/namespaces/a/deployments/b",
            "delete on deployments.apps b in a",
        ),
        (
            "PATCH /apis/apps/v1/namespaces/a/deployments/b/scale",
            "patch on deployments/scale.apps b in a",
        ),
        ("GET /api/v1/nodes/n/proxy/metrics", "get on nodes/proxy n"),
        (
            "POST /api/v1/namespaces/a/services/s:80/proxy/x",
            "create on services/proxy s:80 in a",
        ),
        ("GET /metrics", "get on /metrics"),
        ("POST /apis/apps/v1", "post on /apis/apps/v1"),
        ("GET /api/v1", "get on /api/v1"),
    ] {
        assert_eq!(accesses(line, &[]), [access], "{line}");
    }
}

#[test]
fn what_runs_a_command_is_a_create_whatever_the_method() {
    for method in ["GET", "POST"] {
        for sub in RUNNING {
            let line = format!("{method} /api/v1/namespaces/a/pods/b/{sub}");
            assert_eq!(
                accesses(&line, &[]),
                [format!("create on pods/{sub} b in a")]
            );
        }
    }
    let read = read("GET /api/v1/namespaces/a/pods/b/exec?command=sh&command=-c&command=ls+-l%20%27x%27&container=c&stdin=true").unwrap();
    assert_eq!(read.request.command, ["sh", "-c", "ls -l 'x'"]);
    assert_eq!(
        read.command,
        r"create pods/exec b in a container c -- sh -c 'ls -l '\''x'\'''"
    );
}

#[test]
fn raising_rights_and_acting_as_others_are_accesses_of_their_own() {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(
        accesses(&format!("PATCH {rbac}/clusterroles/r"), &[]),
        [
            "patch on clusterroles.rbac.authorization.k8s.io r",
            "escalate on clusterroles.rbac.authorization.k8s.io r"
        ]
    );
    assert_eq!(
        accesses(&format!("POST {rbac}/namespaces/a/rolebindings"), &[]),
        [
            "create on rolebindings.rbac.authorization.k8s.io in a",
            "bind on rolebindings.rbac.authorization.k8s.io in a"
        ]
    );
    assert_eq!(
        accesses(&format!("GET {rbac}/clusterroles/r"), &[]).len(),
        1
    );
    let fields = [
        ("impersonate-user", "ann"),
        ("impersonate-group", "system:masters"),
        ("impersonate-group", "dba"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-scope", "all"),
    ];
    assert_eq!(
        accesses("GET /version", &fields),
        [
            "get on /version",
            "impersonate on users ann",
            "impersonate on groups system:masters",
            "impersonate on groups dba",
            "impersonate on uids.authentication.k8s.io 7",
            "impersonate on userextras/scope.authentication.k8s.io all",
        ]
    );
    let account = [(
        "impersonate-user",
        "system:serviceaccount:kube-system:admin",
    )];
    assert_eq!(
        accesses("GET /version", &account)[1],
        "impersonate on serviceaccounts admin in kube-system"
    );
    assert!(read_with("GET /version", &[("impersonate-sideways", "x")]).is_err());
}

#[test]
fn what_could_mean_two_things_is_refused() {
    for line in [
        "GET /api/v1/pods?watch=false&watch=true",
        "GET /api/v1/pods?watch=yes",
        "GET /api/v1/pods?watch=",
        "GET /api/v1/pods?fieldSelector=metadata.name%3Da&fieldSelector=",
        "DELETE /api/v1/pods?dryRun=All&dryRun=",
        "POST /api/v1/watch/pods",
        "GET /api/v1/proxy/nodes/n",
        "GET /api/v1/watch",
        "OPTIONS /api/v1/pods",
        "GET /api/v1/namespaces/a%20in%20b/pods",
        "GET /api/v1/pods.apps",
    ] {
        assert!(read(line).is_err(), "{line}");
    }
}

#[test]
fn discovery_is_what_every_client_needs_and_nothing_more() {
    for line in [
        "GET /api",
        "GET /apis/apps/v1",
        "GET /openapi/v3/api/v1?hash=x",
        "GET /version",
    ] {
        assert!(read(line).unwrap().accesses[0].baseline, "{line}");
    }
    let review = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert!(read(review).unwrap().accesses[0].baseline);
    for line in [
        "GET /metrics",
        "GET /logs/",
        "GET /debug/pprof",
        "POST /api",
        "GET /api/v1/pods",
        "POST /apis/authorization.k8s.io/v1/subjectaccessreviews",
    ] {
        assert!(!read(line).unwrap().accesses[0].baseline, "{line}");
    }
}

proptest::proptest! {
    #[test]
    fn no_path_and_no_query_panics(path in "(/[a-z.:*]{0,6}){0,8}", query in "[a-z=&%0-9.]{0,40}") {
        let target = normal::target(if path.is_empty() { "/" } else { &path }, Some(&query));
        if let Ok(target) = target {
            let request = Request {
                method: "GET".to_owned(),
                path: target.path,
                query: target.query,
                ..Request::default()
            };
            let _ = of(&request, &target.sent, &HeaderMap::new());
        }
    }
}
