// oauth4webapi: discovery (RFC 8414), client credentials, authorization code with PKCE and `iss` (RFC 9207), JWT access token
// (RFC 9068) checked with the published keys, refresh, introspection, revocation.

import { Browser } from './browser.mjs';
import { expect, expectToken, load, ok, refused, run, setting } from './steps.mjs';

const oauth = await load('oauth4webapi');

const BASE = setting('BASE');
const CLIENT = { client_id: setting('CLIENT_ID') };
const SECRET = setting('CLIENT_SECRET');
const PUBLIC_CLIENT = { client_id: setting('PUBLIC_CLIENT_ID') };
const REDIRECT_URI = setting('REDIRECT_URI');
const API = new URL(setting('API_PATH'), BASE);
const SCOPE = setting('SCOPE', '');
const OWNER = { username: setting('USERNAME'), password: setting('PASSWORD') };

// The library refuses plain HTTP otherwise.
const plain = { [oauth.allowInsecureRequests]: true };
let server;

async function discovery() {
  const issuer = new URL(BASE);
  const answer = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...plain });
  server = await oauth.processDiscoveryResponse(issuer, answer);
  // The library compares `iss` with this one byte for byte.
  expect(server.issuer === BASE, `the issuer is ${server.issuer}, wanted ${BASE}`);
  expect(server.code_challenge_methods_supported?.includes('S256'), 'code_challenge_methods_supported lacks S256');
  const iss = server.authorization_response_iss_parameter_supported;
  expect(iss === true, 'authorization_response_iss_parameter_supported is not true');
  ok('server metadata, oauth-authorization-server');
  const other = await oauth.discoveryRequest(issuer, { algorithm: 'oidc', ...plain });
  await oauth.processDiscoveryResponse(issuer, other);
  ok('server metadata, openid-configuration');
}

async function callApi(token, step) {
  const answer = await oauth.protectedResourceRequest(token.access_token, 'GET', API, undefined, undefined, plain);
  const text = await answer.text();
  expect(answer.status === 200, `the API gave ${answer.status}: ${text.slice(0, 300)}`);
  ok(step);
}

async function clientCredentials() {
  const parameters = SCOPE ? { scope: SCOPE } : {};
  for (const method of ['ClientSecretBasic', 'ClientSecretPost']) {
    const answer = await oauth.clientCredentialsGrantRequest(server, CLIENT, oauth[method](SECRET), parameters, plain);
    const token = await oauth.processClientCredentialsResponse(server, CLIENT, answer);
    expectToken(token, { scope: SCOPE, refreshable: false });
    await callApi(token, `client credentials, ${method}`);
  }
  const error = await refused(async () => {
    const answer = await oauth.clientCredentialsGrantRequest(server, CLIENT, oauth.ClientSecretBasic(`${SECRET}x`), {}, plain);
    await oauth.processClientCredentialsResponse(server, CLIENT, answer);
  }, 'a wrong secret');
  // A challenge goes before the body for this library.
  expect(error instanceof oauth.WWWAuthenticateChallengeError && error.status === 401, `a wrong secret gave ${error}`);
  expect(error.cause[0].scheme === 'basic', `challenged with ${JSON.stringify(error.cause)}`);
  ok('client credentials, wrong secret');
}

/** An authorization request by the user's browser, and the answer that the client was called back with. */
async function authorize(client, act) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const url = new URL(server.authorization_endpoint);
  const parameters = { client_id: client.client_id, redirect_uri: REDIRECT_URI, response_type: 'code', state,
    code_challenge_method: 'S256', code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    ...(SCOPE ? { scope: SCOPE } : {}) };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const back = await new Browser(REDIRECT_URI).authorize(url, OWNER, act);
  expect(back.searchParams.get('iss') === BASE, `the iss came back as ${back.searchParams.get('iss')}`);
  return { back, state, verifier };
}

async function code(client, authentication) {
  const { back, state, verifier } = await authorize(client);
  const parameters = oauth.validateAuthResponse(server, client, back, state);
  const answer = await oauth.authorizationCodeGrantRequest(
    server, client, authentication, parameters, REDIRECT_URI, verifier, plain);
  const token = await oauth.processAuthorizationCodeResponse(server, client, answer);
  expectToken(token, { scope: SCOPE, refreshable: true });
  return token;
}

async function refresh(client, authentication, token) {
  const answer = await oauth.refreshTokenGrantRequest(server, client, authentication, token.refresh_token, plain);
  const next = await oauth.processRefreshTokenResponse(server, client, answer);
  expectToken(next, { scope: SCOPE, refreshable: true });
  return next;
}

async function introspect(token) {
  const answer = await oauth.introspectionRequest(server, CLIENT, oauth.ClientSecretBasic(SECRET), token, plain);
  return oauth.processIntrospectionResponse(server, CLIENT, answer);
}

async function revoke(client, authentication, token, hint) {
  const options = { additionalParameters: { token_type_hint: hint }, ...plain };
  const answer = await oauth.revocationRequest(server, client, authentication, token, options);
  await oauth.processRevocationResponse(answer);
}

async function invalidGrant(call, what) {
  const error = await refused(call, what);
  expect(error.error === 'invalid_grant' && error.status === 400, `${what} gave ${error.status} ${error.error ?? error}`);
}

async function confidentialClient() {
  const authentication = oauth.ClientSecretBasic(SECRET);
  const first = await code(CLIENT, authentication);
  await callApi(first, 'authorization code with PKCE and iss, confidential client');
  const token = await refresh(CLIENT, authentication, first);
  expect(token.access_token !== first.access_token, 'refreshing gave the same access token');
  await callApi(token, 'refresh, confidential client');

  const about = await introspect(token.access_token);
  const same = about.client_id === CLIENT.client_id && about.scope === token.scope;
  expect(about.active && same, `introspected as ${JSON.stringify(about)}`);
  expect((await introspect('nonsense')).active === false, 'nonsense is an active token');
  ok('introspection');

  for (const hint of ['access_token', 'refresh_token']) {
    await revoke(CLIENT, authentication, token[hint], hint);
    expect((await introspect(token[hint])).active === false, `the revoked ${hint} is active`);
  }
  await revoke(CLIENT, authentication, 'nonsense', 'refresh_token');
  const error = await refused(() => callApi(token, 'call'), 'a revoked token');
  expect(error instanceof oauth.WWWAuthenticateChallengeError && error.status === 401, `the API gave ${error} for a revoked token`);
  const [{ scheme, parameters }] = error.cause;
  expect(scheme === 'bearer' && parameters.error === 'invalid_token', `challenged with ${JSON.stringify(error.cause)}`);
  await invalidGrant(() => refresh(CLIENT, authentication, token), 'a revoked refresh token');
  ok('revocation');
}

async function publicClient() {
  const first = await code(PUBLIC_CLIENT, oauth.None());
  await callApi(first, 'authorization code with PKCE and iss, public client');
  const token = await refresh(PUBLIC_CLIENT, oauth.None(), first);
  await callApi(token, 'refresh, public client');
  await revoke(PUBLIC_CLIENT, oauth.None(), token.refresh_token, 'refresh_token');
  await invalidGrant(() => refresh(PUBLIC_CLIENT, oauth.None(), token), 'a revoked refresh token');
  ok('revocation, public client');
}

async function jwtAccessToken() {
  const { access_token: token } = await code(CLIENT, oauth.ClientSecretPost(SECRET));
  if (token.split('.').length !== 3) {
    ok('JWT access token: not one');
    return;
  }
  const audience = setting('AUDIENCE', BASE);
  const request = new Request(API, { headers: { authorization: `Bearer ${token}` } });
  const claims = await oauth.validateJwtAccessToken(server, request, audience, plain);
  expect(claims.client_id === CLIENT.client_id, `client_id is ${claims.client_id}`);
  ok('JWT access token, checked with the published keys');
}

async function deniedByUser() {
  const { back, state } = await authorize(CLIENT, 'deny');
  const error = await refused(async () => oauth.validateAuthResponse(server, CLIENT, back, state), 'a denied request');
  expect(error instanceof oauth.AuthorizationResponseError && error.error === 'access_denied', `after Deny: ${error} ${back}`);
  ok('denied by the user');
}

// What is once allowed is not asked again: the denial comes first.
await run([discovery, clientCredentials, deniedByUser, confidentialClient, publicClient, jwtAccessToken]);
