//! Tokens that are limited to a Sandbox or claim: genuine ones at the right and the wrong place, and forged ones.

use std::cell::Cell;

use jiff::SignedDuration;
use jiff::Timestamp;

use super::issuer::{CLUSTER, Issuer, now, scoped, signed, token};
use super::*;
use crate::only::Holder;

const BOX: &str = "paddock.dev/sandbox/ns/box/uid";

thread_local!(static LATER: Cell<i64> = const { Cell::new(0) });

/// A time that a test moves.
fn time() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(LATER.get())
}

fn authorizer(issuer: &Issuer, rule: ScopedTokens) -> Authorizer {
    Authorizer::reviewed(issuer.client(), rule, Clock::new(time))
}

async fn ask(authorizer: &Authorizer, token: &str, target: (&str, &str, u16)) -> Result<Only, (Reason, String)> {
    let (namespace, name, port) = target;
    let target = Target { namespace: namespace.into(), name: name.into(), port };
    let checked = authorizer.check(&Credential::Bearer(token.into()), CLIENT, &target).await;
    checked.map(|caller| caller.only).map_err(|refusal| (refusal.reason, refusal.detail))
}

fn sandbox(uid: &str) -> Only {
    Only::Of([Holder::Sandbox(uid.into())].into())
}

fn claim(uid: &str) -> Only {
    Only::Of([Holder::Claim(uid.into())].into())
}

#[tokio::test(start_paused = true)]
async fn token_admits_to_its_sandbox_and_port_alone() {
    let issuer = Issuer::default();
    issuer.deny("denied");
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let here = ("ns", "box", 8888);
    let forbidden = |detail: &str| Err((Reason::Forbidden, detail.to_owned()));
    let another = || forbidden("the token is for another Sandbox");
    let port = |port: u16| forbidden(&format!("the token is not for port {port}"));
    for (scopes, target, wanted) in [
        (&[BOX][..], here, Ok(sandbox("uid"))),
        (&[BOX], ("ns", "box", 22), Ok(sandbox("uid"))),
        (&[BOX], ("ns", "other", 8888), another()),
        (&[BOX], ("other", "box", 8888), another()),
        (&["paddock.dev/sandbox/ns/box/uid/8888"], here, Ok(sandbox("uid"))),
        (&["paddock.dev/sandbox/ns/box/uid/8888"], ("ns", "box", 8889), port(8889)),
        (&["paddock.dev/sandbox/ns/box/uid/8888"], ("ns", "box", 888), port(888)),
        (
            &["paddock.dev/sandbox/ns/box/uid/8888", "paddock.dev/sandbox/ns/box/uid/22"],
            ("ns", "box", 22),
            Ok(sandbox("uid")),
        ),
        (&["paddock.dev/sandbox/ns/box/uid/8888", "paddock.dev/sandbox/ns/other/uid"], ("ns", "box", 22), port(22)),
        (&["paddock.dev/claim/ns/mine/c"], here, Ok(claim("c"))),
        (&["paddock.dev/claim/ns/mine/c/8888"], here, Ok(claim("c"))),
        (&["paddock.dev/claim/ns/mine/c/8888"], ("ns", "box", 1), port(1)),
        (&["paddock.dev/claim/other/mine/c"], here, another()),
        // A Sandbox and a claim may have the same name. They have different UIDs.
        (&["paddock.dev/claim/ns/box/uid"], here, Ok(claim("uid"))),
        (&["paddock.dev/sandbox/ns/denied/uid"], ("ns", "denied", 8888), forbidden("forbidden")),
        // The scope limits a token that is also one for the API server.
        (&[CLUSTER, BOX], ("ns", "other", 8888), another()),
        (&[CLUSTER, BOX], here, Ok(sandbox("uid"))),
    ] {
        for round in ["asked", "remembered"] {
            assert_eq!(ask(&authorizer, &scoped(scopes), target).await, wanted, "{scopes:?} {target:?} {round}");
        }
    }
    assert_eq!(
        ask(&authorizer, &token(&json!({ "aud": BOX })), here).await,
        Ok(sandbox("uid")),
        "one audience as a text"
    );
    assert_eq!(ask(&authorizer, &scoped(&[CLUSTER]), here).await, Ok(Only::Any), "a token of the API server");
}

#[tokio::test(start_paused = true)]
async fn token_that_the_api_server_did_not_issue_for_this_is_refused() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let claims = |more: Value| {
        let mut all = json!({ "iss": CLUSTER, "sub": "u", "nbf": 0, "exp": now() + 600, "aud": [BOX] });
        json_patch::merge(&mut all, &more);
        all
    };
    let es = json!({ "alg": "ES256", "kid": "key" });
    let genuine = scoped(&["paddock.dev/sandbox/ns/other/uid"]);
    let parts: Vec<&str> = genuine.split('.').collect();
    let own = scoped(&[BOX]);
    let of_box: Vec<&str> = own.split('.').collect();
    let not_genuine = "the API server does not accept this token";
    let many: Vec<String> = (1..=17).map(|port| format!("{BOX}/{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (what, token, wanted) in [
        ("another key", signed(&es, &claims(json!({})), "another key"), not_genuine),
        ("no signature", signed(&json!({ "alg": "none" }), &claims(json!({})), ""), not_genuine),
        ("an empty signature", format!("{}.{}.", of_box[0], of_box[1]), not_genuine),
        (
            "HS256 with the public key",
            signed(&json!({ "alg": "HS256" }), &claims(json!({})), "public key"),
            not_genuine,
        ),
        ("the claims of another token", format!("{}.{}.{}", parts[0], of_box[1], parts[2]), not_genuine),
        ("another issuer", token(&json!({ "aud": [BOX], "iss": "https://elsewhere" })), not_genuine),
        ("not valid yet", token(&json!({ "aud": [BOX], "nbf": now() + 600 })), not_genuine),
        ("expired", token(&json!({ "aud": [BOX], "exp": now() - 600 })), "the token has expired"),
        (
            "expired, for the API server not yet",
            token(&json!({ "aud": [BOX], "exp": now() - 1 })),
            "the token has expired",
        ),
        ("no end", token(&json!({ "aud": [BOX], "exp": null })), "never expires"),
        ("no number as its end", token(&json!({ "aud": [BOX], "exp": "never" })), "unauthenticated"),
        ("a scope of a later version", scoped(&[BOX, "paddock.dev/namespace/ns"]), "must have the form"),
        ("no UID", scoped(&["paddock.dev/sandbox/ns/box/"]), "must have the form"),
        ("too many scopes", scoped(&many), "more than 16"),
        ("another audience", scoped(&["https://paddock.dev/sandbox/ns/box/uid"]), "unauthenticated"),
        ("a fourth part", format!("{own}.x"), "unauthenticated"),
        ("only claims", of_box[1].to_owned(), "unauthenticated"),
        ("no claims", format!("{}..{}", of_box[0], of_box[2]), "unauthenticated"),
        ("padding", format!("{}.{}=.{}", of_box[0], of_box[1], of_box[2]), "unauthenticated"),
    ] {
        let (reason, detail) = ask(&authorizer, &token, ("ns", "box", 8888)).await.unwrap_err();
        assert_eq!(reason, Reason::Unauthenticated, "{what}: {detail}");
        assert!(detail.contains(wanted), "{what}: {detail}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!detail.contains(part), "{what}: {detail}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn authenticator_that_knows_no_audiences_confirms_no_scope() {
    let issuer = Issuer::default();
    issuer.knows_no_audiences();
    let refused = ask(&authorizer(&issuer, ScopedTokens::Accept), &scoped(&[BOX]), ("ns", "box", 8888)).await;
    assert_eq!(refused.map_err(|(reason, _)| reason), Err(Reason::Unauthenticated));
}

#[tokio::test(start_paused = true)]
async fn token_ends_at_its_end_although_it_was_admitted_lately_and_nobody_can_be_asked() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let (token, here) = (token(&json!({ "aud": [BOX], "exp": now() + 30 })), ("ns", "box", 8888));
    assert_eq!(ask(&authorizer, &token, here).await, Ok(sandbox("uid")));
    LATER.set(20);
    assert_eq!(ask(&authorizer, &token, here).await, Ok(sandbox("uid")));
    assert_eq!(issuer.reviews(), 1, "a token is asked about once");
    LATER.set(31);
    for _ in 0..2 {
        let expired = Err((Reason::Unauthenticated, "the token has expired".to_owned()));
        assert_eq!(ask(&authorizer, &token, here).await, expired);
        issuer.away();
        tokio::time::advance(limits::REVIEWS.admitted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn revoked_token_ends_within_the_time_of_an_answer() {
    let issuer = Issuer::default();
    let authorizer = authorizer(&issuer, ScopedTokens::Accept);
    let (token, here) = (scoped(&[BOX]), ("ns", "box", 8888));
    assert_eq!(ask(&authorizer, &token, here).await, Ok(sandbox("uid")));
    issuer.revoke("system:serviceaccount:ns:client");
    tokio::time::advance(limits::REVIEWS.admitted).await;
    assert_eq!(ask(&authorizer, &token, here).await.unwrap_err().0, Reason::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn rule_says_which_sort_of_tokens_is_accepted() {
    let (limited, of_api_server) = (scoped(&[BOX]), scoped(&[CLUSTER]));
    for (rule, token, wanted) in [
        (ScopedTokens::Accept, &limited, Ok(sandbox("uid"))),
        (ScopedTokens::Accept, &of_api_server, Ok(Only::Any)),
        (ScopedTokens::Require, &limited, Ok(sandbox("uid"))),
        (ScopedTokens::Require, &of_api_server, Err("accepts only tokens that are limited")),
        (ScopedTokens::Refuse, &limited, Err("accepts no tokens that are limited")),
        (ScopedTokens::Refuse, &of_api_server, Ok(Only::Any)),
    ] {
        let issuer = Issuer::default();
        let answer = ask(&authorizer(&issuer, rule), token, ("ns", "box", 8888)).await;
        match (answer, wanted) {
            (Ok(only), Ok(wanted)) => assert_eq!(only, wanted, "{rule:?}"),
            (Err((Reason::Unauthenticated, detail)), Err(wanted)) => {
                assert!(detail.contains(wanted), "{rule:?}: {detail}");
                assert_eq!(issuer.reviews(), 0, "the API server is not asked");
            }
            (answer, wanted) => panic!("{rule:?}: {answer:?}, and not {wanted:?}"),
        }
    }
}

#[test]
fn token_is_in_no_output() {
    let text = scoped(&[BOX]);
    let token = Token::for_audiences(text.clone(), vec![BOX.to_owned()]);
    let shown = format!("{token:?}");
    assert!(shown.contains(BOX) && !shown.contains(&text), "{shown}");
}
