//! Effect of a policy change: who may newly call what, and who no longer may. The decision that
//! serves answers the same questions under both sets, one for each way in which requests can differ
//! to their rules.

pub(super) mod callers;
pub(super) mod contexts;
mod content;
pub(super) mod paths;
mod comparison;
pub mod traffic;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use comparison::{Comparison, Difference, Direction, Example, ExampleToken};

use super::Workers;
use super::replay::sent;
use crate::names::{RoleName, ScopeName, Timestamp};
use crate::policy::Rules;
use crate::policy::decide::{Judgement, Moment, Opened, check_network, judge, open};
use crate::policy::route::{Matched, OperationId, Segment};
use crate::policy::sample::{TokenSample, audience};
use crate::reason::{Reason, Refusal};
use crate::request::Request;
use crate::request::certificate::CertificateFacts;
use crate::request::credential::BearerToken;
use crate::request::head::{Head, Limits};
use crate::request::headers::OVERRIDING;
use crate::request::method::Method;
use crate::scope::ScopeSet;
use crate::token::Facts;
use crate::token::claims::Audience;
use callers::Caller;
use content::Contents;
use contexts::{Extras, Looked};
use paths::Path;

/// A host that no API names.
pub(super) const ELSEWHERE: &str = "host.invalid";

/// Compares two sets.
#[must_use]
pub fn compare(old: &Rules, new: &Rules, now: Timestamp, workers: Workers<'_>) -> Comparison {
    let blocks = || [old, new].into_iter().flat_map(|rules| &rules.definitions().blocks);
    let comparer = Comparer {
        old,
        new,
        contents: [Contents::of(old), Contents::of(new)],
        callers: callers::callers(old, new),
        all: content::of_all(old) != content::of_all(new),
        ends: blocks().filter_map(|block| block.until).collect(),
        networks: blocks().flat_map(|block| block.from.iter().copied()).collect(),
        ids: ids(old, new),
        now,
    };
    let (asked, cut) = comparer.asked();
    let parts = workers.each(&asked, |(path, form), parts: &mut Vec<Comparison>| {
        if parts.is_empty() {
            parts.push(Comparison::default());
        }
        if let Some(found) = parts.first_mut() {
            comparer.ask(path, *form, found);
        }
    });
    let mut comparison = Comparison { in_part: cut, ..Comparison::default() };
    for part in parts {
        comparison.differences.extend(part.differences);
        comparison.in_part += part.in_part;
    }
    comparison::merge(&mut comparison.differences);
    comparison
}

/// Combines each sample with each choice.
fn each<'c, C, T: 'c>(
    words: Vec<TokenSample>,
    choices: &'c C,
    set: impl Fn(&mut TokenSample, &T),
) -> Vec<TokenSample>
where
    &'c C: IntoIterator<Item = &'c T>,
{
    let mut made = Vec::new();
    for words in words {
        for choice in choices {
            let mut words = words.clone();
            set(&mut words, choice);
            made.push(words);
        }
    }
    made
}

/// Ids of tokens that the two sets block differently, and `None`.
fn ids(old: &Rules, new: &Rules) -> Vec<Option<String>> {
    let of = |rules: &Rules| -> BTreeSet<(String, Option<Timestamp>)> {
        let blocks = rules.definitions().blocks.iter();
        blocks.flat_map(|block| block.tokens.iter().map(|id| (id.clone(), block.until))).collect()
    };
    let (old, new) = (of(old), of(new));
    let differ: BTreeSet<&String> = old.symmetric_difference(&new).map(|(id, _)| id).collect();
    std::iter::once(None).chain(differ.into_iter().cloned().map(Some)).collect()
}

struct Comparer<'a> {
    old: &'a Rules,
    new: &'a Rules,
    contents: [Contents<'a>; 2],
    callers: Vec<Caller>,
    /// Whether a difference can affect every verdict.
    all: bool,
    ends: BTreeSet<Timestamp>,
    networks: BTreeSet<ipnet::IpNet>,
    /// Ids of tokens whose blocks differ, and `None`.
    ids: Vec<Option<String>>,
    now: Timestamp,
}

/// How one set decides about one path and method.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Way {
    /// The same for every token; with the operation, where one matched.
    Decided(Result<(), Reason>, Option<OperationId>),
    /// The token decides.
    Token(Matched),
}

impl Way {
    fn of(opened: Opened<'_>) -> Self {
        match opened {
            Opened::Decided(judgement) => Self::Decided(
                verdict(&judgement),
                judgement.operation.as_ref().map(|matched| matched.operation),
            ),
            Opened::Token(matched, _) => Self::Token(matched),
        }
    }
}

fn verdict(judgement: &Judgement) -> Result<(), Reason> {
    judgement.outcome.as_ref().map(|_| ()).map_err(|refusal| refusal.reason)
}

fn network(rules: &Rules, circumstance: &Circumstance) -> Result<(), Reason> {
    check_network(rules, circumstance.request.address, Moment::at(circumstance.at))
        .map_err(|refusal| refusal.reason)
}

fn label(verdict: Result<(), Reason>) -> &'static str {
    verdict.err().map_or("permit", Reason::label)
}

/// The origin of a request, and its time.
struct Circumstance {
    request: Request,
    at: Timestamp,
}

/// A token of a caller, as each side reads it. It does not expire.
struct Token<'a> {
    caller: &'a Caller,
    extras: &'a Extras,
    words: TokenSample,
    facts: [Arc<Facts>; 2],
}

/// How a request says its method.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// By its own.
    Own(Method),
    /// By a header of a POST.
    Header(Method),
}

impl Form {
    /// The method as a difference names it.
    const fn label(self) -> &'static str {
        match self {
            Self::Own(method) => method.as_str(),
            Self::Header(Method::Put) => "POST as PUT",
            Self::Header(Method::Patch) => "POST as PATCH",
            Self::Header(_) => "POST as DELETE",
        }
    }

    /// The method of the request line, and the one that a header names.
    const fn sent(self) -> (Method, Option<Method>) {
        match self {
            Self::Own(method) => (method, None),
            Self::Header(method) => (Method::Post, Some(method)),
        }
    }
}

/// Everything that is the same for all callers of one path and method.
struct Place<'a> {
    path: &'a Path,
    form: Form,
    request: Request,
    ways: [Way; 2],
    circumstances: Vec<Circumstance>,
    extras: BTreeSet<Extras>,
    scopes: BTreeSet<ScopeName>,
}

impl Place<'_> {
    /// Our own tokens take their roles from users and clients: of the combinations that differ only
    /// in roles, one is enough.
    fn is_least(&self, extras: &Extras) -> bool {
        let alike = |other: &&Extras| {
            other.claims == extras.claims && other.certificate == extras.certificate
        };
        self.extras.iter().find(alike) == Some(extras)
    }
}

impl Comparer<'_> {
    /// Every path and method to compare: one of those that lead to the same operations in the same
    /// way.
    fn asked(&self) -> (Vec<(Path, Form)>, usize) {
        let mut seen = HashSet::new();
        let mut asked = Vec::new();
        let (paths, cut) = paths::paths(self.old, self.new);
        for path in paths {
            let host = path.host.as_deref().unwrap_or(ELSEWHERE);
            let offered = [self.old, self.new].map(|rules| rules.methods_at(host, &path.path));
            // What neither offers, both refuse.
            let methods = offered[0].union(offered[1]);
            let named = OVERRIDING.into_iter().filter(|method| methods.contains(*method));
            for form in methods.iter().map(Form::Own).chain(named.map(Form::Header)) {
                let Some(request) = request(&path, form) else { continue };
                let ways = [open(self.old, &request), open(self.new, &request)].map(Way::of);
                let refused = |way: &Way| matches!(way, Way::Decided(Err(_), _));
                if !ways.iter().all(refused) && seen.insert(ways) {
                    asked.push((path.clone(), form));
                }
            }
        }
        (asked, cut)
    }

    fn ask(&self, path: &Path, form: Form, found: &mut Comparison) {
        let Some(request) = request(path, form) else { return };
        let opened = [open(self.old, &request), open(self.new, &request)];
        let ([old, new], [of_old, of_new]) = (&opened, &self.contents);
        let same = !self.all && of_old.of_opened(old) == of_new.of_opened(new);
        if same && self.callers.iter().all(|caller| caller.same) {
            return;
        }
        let place = self.place(path, form, request.clone(), opened.map(Way::of), found);
        self.anonymous(&place, found);
        for caller in self.callers.iter().filter(|caller| !(same && caller.same)) {
            self.caller(&place, caller, found);
        }
    }

    fn place<'p>(
        &self,
        path: &'p Path,
        form: Form,
        request: Request,
        ways: [Way; 2],
        found: &mut Comparison,
    ) -> Place<'p> {
        let mut place = Place {
            path,
            form,
            request,
            circumstances: Vec::new(),
            extras: BTreeSet::from([Extras::default()]),
            scopes: BTreeSet::new(),
            ways,
        };
        let (mut networks, mut times) = (self.networks.clone(), Vec::new());
        for (rules, way) in [self.old, self.new].into_iter().zip(&place.ways) {
            let Way::Token(matched) = way else { continue };
            let looked = Looked::of(rules, matched.operation);
            networks.extend(looked.networks());
            times.extend(looked.times());
            let (extras, whole) = looked.extras();
            place.extras.extend(extras);
            found.in_part += usize::from(!whole);
            place.scopes.extend(
                rules.grants_of(matched.operation).into_iter().map(|(scope, _)| scope.clone()),
            );
            place.scopes.insert(rules.master_scope().clone());
        }
        let moments = contexts::moments(&times, &self.ends, self.now);
        for address in contexts::addresses(&networks) {
            let mut request = place.request.clone();
            request.address = address;
            place.circumstances.extend(
                moments.iter().map(|at| Circumstance { request: request.clone(), at: *at }),
            );
        }
        place
    }

    /// Compares requests without a token: only public operations are permitted.
    fn anonymous(&self, place: &Place<'_>, found: &mut Comparison) {
        let of = |way: &Way| match way {
            Way::Decided(verdict, _) => *verdict,
            Way::Token(_) => Err(Reason::TokenMissing),
        };
        if place.ways.iter().all(|way| of(way).is_err()) {
            return;
        }
        let [old, new] = &place.ways;
        for circumstance in &place.circumstances {
            let verdicts = [
                network(self.old, circumstance).and(of(old)),
                network(self.new, circumstance).and(of(new)),
            ];
            if verdicts[0].is_ok() != verdicts[1].is_ok() {
                found.differences.push(self.difference(place, circumstance, None, verdicts));
                return;
            }
        }
    }

    /// Compares all tokens of a caller in all circumstances; one difference for each direction.
    fn caller(&self, place: &Place<'_>, caller: &Caller, found: &mut Comparison) {
        let mut first: BTreeMap<Direction, (Difference, BTreeSet<String>, bool)> = BTreeMap::new();
        let (tokens, whole) = self.tokens(place, caller);
        found.in_part += usize::from(!whole);
        for token in tokens {
            for circumstance in &place.circumstances {
                let [old, new] = self.verdicts(place, circumstance, &token);
                if old.is_ok() == new.is_ok() {
                    continue;
                }
                let direction = if old.is_ok() { Direction::Tightens } else { Direction::Widens };
                let (_, with, bare) = first.entry(direction).or_insert_with(|| {
                    (
                        self.difference(place, circumstance, Some(&token), [old, new]),
                        BTreeSet::new(),
                        false,
                    )
                });
                match token.words.scopes.as_ref().map(ScopeSet::as_slice) {
                    Some([scope]) => {
                        with.insert(scope.to_string());
                    }
                    _ => *bare = true,
                }
            }
        }
        found.differences.extend(first.into_values().map(|(mut difference, with, bare)| {
            // Where the verdict changes without any scope, scopes do not matter.
            difference.scopes = if bare { Vec::new() } else { with.into_iter().collect() };
            difference
        }));
    }

    /// Every token of a caller that the rules here can distinguish, the same for both sets. `false`
    /// where some were left out.
    fn tokens<'t>(&'t self, place: &'t Place<'_>, caller: &'t Caller) -> (Vec<Token<'t>>, bool) {
        let own = caller.issuer.is_own();
        // Our own tokens carry no role claim and only the standard claims.
        let fits = |extras: &&Extras| !own || (extras.claims.is_empty() && place.is_least(extras));
        let (scopes, audiences) = (self.scopes(place, caller), self.audiences(place, caller));
        let (mut tokens, mut whole) = (Vec::new(), true);
        for extras in place.extras.iter().filter(fits) {
            let (roles, all) = self.raw_roles(caller, extras);
            whole &= all;
            let claims =
                extras.claims.iter().map(|(name, value)| (name.clone(), value.clone().into()));
            let base = TokenSample {
                subject: Some(
                    caller
                        .user
                        .as_ref()
                        .map_or_else(|| caller.client.to_string(), ToString::to_string),
                ),
                claims: claims.collect(),
                ..TokenSample::of(caller.issuer.clone(), caller.claim.clone())
            };
            let words = each(vec![base], &scopes, |words, scopes| words.scopes.clone_from(scopes));
            let words = each(words, &roles, |words, roles| words.roles.clone_from(roles));
            let words =
                each(words, &audiences, |words, audience| words.audience.clone_from(audience));
            let words = each(words, &self.ids, |words, id| words.id.clone_from(id));
            tokens.extend(words.into_iter().map(|words| self.token(caller, extras, words)));
        }
        (tokens, whole)
    }

    fn token<'t>(&self, caller: &'t Caller, extras: &'t Extras, words: TokenSample) -> Token<'t> {
        let facts = [self.old, self.new].map(|rules| {
            let mut facts = words.facts(rules, self.now);
            // Never expires: the rules are compared, not the token's lifetime.
            (facts.issued, facts.expires) = (None, Timestamp(i64::MAX));
            Arc::new(facts)
        });
        Token { caller, extras, words, facts }
    }

    /// Values of the role claim that map to these roles in one of the sets: where the sets map a
    /// value differently, with it and without.
    fn raw_roles(&self, caller: &Caller, extras: &Extras) -> (BTreeSet<Vec<String>>, bool) {
        let mut found = BTreeSet::from([Vec::new()]);
        let mut whole = true;
        if caller.issuer.is_own() {
            return (found, whole);
        }
        let maps = [self.old, self.new]
            .map(|rules| rules.issuer(caller.issuer.as_str()).map(|issuer| &issuer.roles));
        for role in &extras.roles {
            let of = |map: Option<&HashMap<String, RoleName>>| -> BTreeSet<String> {
                let values = map.into_iter().flatten().filter(|(_, own)| *own == role);
                values.map(|(value, _)| value.clone()).collect()
            };
            let [old, new] = maps.map(of);
            let mut values: BTreeSet<String> = old.symmetric_difference(&new).cloned().collect();
            values.extend(old.intersection(&new).next().cloned());
            if values.is_empty() {
                continue;
            }
            let pairs = found.iter().flat_map(|raw| values.iter().map(move |value| (raw, value)));
            whole &= pairs.clone().count() <= contexts::MOST;
            let with = |(raw, value): (&Vec<String>, &String)| {
                [raw.as_slice(), std::slice::from_ref(value)].concat()
            };
            found = pairs.take(contexts::MOST).map(with).collect();
        }
        (found, whole)
    }

    /// Audiences that the sets can distinguish; `None` is the audience that each set's issuer uses.
    fn audiences(&self, place: &Place<'_>, caller: &Caller) -> BTreeSet<Option<Vec<String>>> {
        let issuers = [self.old, self.new].map(|rules| rules.issuer(caller.issuer.as_str()));
        if caller.issuer.is_own() {
            // Another `public_url` is another gateway, with tokens of its own.
            let mut found = BTreeSet::from([None]);
            let here = issuers.map(|issuer| issuer.map(|issuer| issuer.rules.issuer.as_str()));
            let resource = |rules: &Rules, way: &Way| match way {
                Way::Token(matched) => {
                    rules.api_of(matched.operation).and_then(|api| api.resource.clone())
                }
                Way::Decided(..) => None,
            };
            // Narrowed to the API (RFC 8707), where the resource differs or is another API's in one
            // of the sets.
            let [old, new] =
                [resource(self.old, &place.ways[0]), resource(self.new, &place.ways[1])];
            if here[0] == here[1] && old != new {
                found.extend([old, new].into_iter().flatten().map(|resource| Some(vec![resource])));
            }
            return found;
        }
        let mut found: BTreeSet<Option<Vec<String>>> =
            issuers.iter().map(|issuer| Some(audience(*issuer))).collect();
        let ours = issuers.map(|issuer| match issuer.map(|issuer| &issuer.rules.audience) {
            Some(Audience::OneOf(ours)) => Some(ours),
            Some(Audience::Any) | None => None,
        });
        if let [Some(old), Some(new)] = ours {
            found
                .extend(old.symmetric_difference(new).map(|audience| Some(vec![audience.clone()])));
        } else if ours.iter().any(Option::is_some) {
            found.insert(Some(vec![format!("https://{ELSEWHERE}")]));
        }
        found
    }

    fn verdicts(
        &self,
        place: &Place<'_>,
        circumstance: &Circumstance,
        token: &Token<'_>,
    ) -> [Result<(), Reason>; 2] {
        let certified = token.extras.certificate.as_slice();
        let request = if certified.is_empty() {
            Cow::Borrowed(&circumstance.request)
        } else {
            let mut request = circumstance.request.clone();
            request.certificate = CertificateFacts::named(certified);
            Cow::Owned(request)
        };
        let verdict = |rules: &Rules, way: &Way, facts: &Arc<Facts>| match way {
            Way::Decided(verdict, _) => *verdict,
            Way::Token(matched) => verdict(&judge(
                rules,
                &request,
                matched.clone(),
                facts.clone(),
                Moment::at(circumstance.at),
            )),
        };
        let ([old_way, new_way], [old_facts, new_facts]) = (&place.ways, &token.facts);
        [
            network(self.old, circumstance).and_then(|()| verdict(self.old, old_way, old_facts)),
            network(self.new, circumstance).and_then(|()| verdict(self.new, new_way, new_facts)),
        ]
    }

    /// Scopes of a token: none, and each relevant scope by itself. With several, a token passes
    /// exactly where one of them does.
    fn scopes(&self, place: &Place<'_>, caller: &Caller) -> Vec<Option<ScopeSet>> {
        let declares = |rules: &Rules| {
            let issuer = rules.issuer(caller.issuer.as_str());
            issuer.is_some_and(|issuer| !issuer.rules.claims.scopes.is_empty())
        };
        if !declares(self.old) && !declares(self.new) {
            return vec![None];
        }
        let held = |scope: &ScopeName| {
            [self.old, self.new].into_iter().any(|rules| {
                let registry = rules.registry();
                let client = if caller.issuer.is_own() {
                    registry.client(caller.client.as_str())
                } else {
                    registry.external_client(&caller.issuer, caller.claim.as_deref())
                };
                client.is_some_and(|client| client.scopes.contains(scope))
            })
        };
        let singles = place
            .scopes
            .iter()
            .filter(|scope| held(scope))
            .map(|scope| Some([scope.clone()].into_iter().collect()));
        [Some(ScopeSet::default())].into_iter().chain(singles).collect()
    }

    fn difference(
        &self,
        place: &Place<'_>,
        circumstance: &Circumstance,
        token: Option<&Token<'_>>,
        [old, new]: [Result<(), Reason>; 2],
    ) -> Difference {
        let caller = token.map(|token| token.caller);
        let matched = |rules: &Rules| match open(rules, &place.request) {
            Opened::Token(matched, _) => Some(matched.operation),
            Opened::Decided(judgement) => judgement.operation.map(|matched| matched.operation),
        };
        let named = |rules: &Rules| {
            let id = matched(rules)?;
            let (api, operation) = (rules.api_of(id)?, rules.operation(id)?);
            let version =
                operation.version.as_ref().map(|version| format!("/{version}")).unwrap_or_default();
            Some((
                api.name.to_string(),
                sent(format!("{}{version}{}", api.base_path, operation.resource)),
            ))
        };
        let (api, template) = named(self.new).or_else(|| named(self.old)).unwrap_or_default();
        let shape = |rules: &Rules| {
            let segments = rules
                .template_at(place.path.host.as_deref().unwrap_or(ELSEWHERE), &place.path.path)?;
            Some(
                segments
                    .iter()
                    .map(|segment| match segment {
                        Segment::Literal(_) => None,
                        Segment::Suffixed(_, literal) => Some(literal.clone()),
                        Segment::Parameter(_) | Segment::Rest(_) => Some("".into()),
                    })
                    .collect::<Vec<_>>(),
            )
        };
        // Where the sets have different templates, neither describes the paths.
        let other =
            matches!((shape(self.old), shape(self.new)), (Some(old), Some(new)) if old != new);
        let path = if other { place.path.path.clone() } else { template };
        let method = place.form.label();
        let (line, named) = place.form.sent();
        Difference {
            client: caller.map(|caller| caller.client.to_string()),
            caller: caller.map_or_else(|| "anybody".to_owned(), Caller::name),
            method,
            api,
            path,
            direction: if old.is_ok() { Direction::Tightens } else { Direction::Widens },
            old: label(old),
            new: label(new),
            scopes: Vec::new(),
            example: Example {
                request: format!("{} {}", line.as_str(), place.path.path),
                method_override: named.map(Method::as_str),
                host: place.path.host.clone(),
                from: circumstance.request.address.map(|address| address.to_string()),
                at: (circumstance.at != self.now).then(|| super::moment(circumstance.at)),
                certificate: token
                    .and_then(|token| token.extras.certificate.clone())
                    .map(|name| [name]),
                token: token.map(|token| self.example(place, token)),
            },
        }
    }

    fn example(&self, place: &Place<'_>, token: &Token<'_>) -> ExampleToken {
        let Token { caller, extras, words, .. } = token;
        let scopes = words
            .scopes
            .as_ref()
            .filter(|_| token.facts.iter().any(|facts| facts.scopes.is_some()));
        ExampleToken {
            issuer: caller.issuer.to_string(),
            client: caller.claim.clone(),
            subject: caller.user.as_ref().map(ToString::to_string),
            scopes: scopes
                .map(|scopes| scopes.as_slice().iter().map(ToString::to_string).collect()),
            roles: words.roles.clone(),
            claims: extras.claims.clone(),
            audience: words.audience.clone().filter(|_| self.audiences(place, caller).len() > 1),
            id: words.id.clone(),
        }
    }
}

/// The request for a path, with a placeholder token; `None` where strict parsing refuses it.
pub(super) fn request(path: &Path, form: Form) -> Option<Request> {
    let (method, overriding) = form.sent();
    let host = path.host.as_deref().unwrap_or(ELSEWHERE);
    let text = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n\r\n", method.as_str(), path.path);
    let head = Head::parse(text.as_bytes(), &Limits::default()).ok()?;
    let token: Result<BearerToken, Refusal> = BearerToken::parse("words");
    Some(Request { overriding, ..Request::new(head, None, token) })
}
