// openid-client: discovery with the algorithm oauth2, client credentials, authorization code with PKCE, refresh, introspection,
// revocation. It authenticates with client_secret_post unless told otherwise.

import { Browser } from './browser.mjs';
import { expect, expectToken, load, ok, refused, run, setting } from './steps.mjs';

const client = await load('openid-client');

const BASE = setting('BASE');
const CLIENT_ID = setting('CLIENT_ID');
const SECRET = setting('CLIENT_SECRET');
const PUBLIC_CLIENT_ID = setting('PUBLIC_CLIENT_ID');
const REDIRECT_URI = setting('REDIRECT_URI');
const API = new URL(setting('API_PATH'), BASE);
const SCOPE = setting('SCOPE', '');
const OWNER = { username: setting('USERNAME'), password: setting('PASSWORD') };

const scoped = SCOPE ? { scope: SCOPE } : {};
// The library refuses plain HTTP otherwise.
const options = { algorithm: 'oauth2', execute: [client.allowInsecureRequests] };
const configs = {};

async function discovery() {
  configs.post = await client.discovery(new URL(BASE), CLIENT_ID, SECRET, undefined, options);
  configs.basic = await client.discovery(new URL(BASE), CLIENT_ID, undefined, client.ClientSecretBasic(SECRET), options);
  configs.public = await client.discovery(new URL(BASE), PUBLIC_CLIENT_ID, undefined, client.None(), options);
  expect(configs.post.serverMetadata().supportsPKCE('S256'), 'code_challenge_methods_supported lacks S256');
  ok('server metadata');
}

async function callApi(config, token, step) {
  const answer = await client.fetchProtectedResource(config, token.access_token, API, 'GET');
  const text = await answer.text();
  expect(answer.status === 200, `the API gave ${answer.status}: ${text.slice(0, 300)}`);
  ok(step);
}

async function clientCredentials() {
  for (const kind of ['post', 'basic']) {
    const token = await client.clientCredentialsGrant(configs[kind], scoped);
    expectToken(token, { scope: SCOPE, refreshable: false });
    await callApi(configs[kind], token, `client credentials, ${kind}`);
  }
  const wrong = await client.discovery(new URL(BASE), CLIENT_ID, `${SECRET}x`, undefined, options);
  const error = await refused(() => client.clientCredentialsGrant(wrong), 'a wrong secret');
  expect(error.status === 401, `a wrong secret gave ${error}`);
  ok('client credentials, wrong secret');
}

async function authorize(config, act) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const url = client.buildAuthorizationUrl(config, { redirect_uri: REDIRECT_URI, state: expectedState,
    code_challenge_method: 'S256', code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), ...scoped });
  const back = await new Browser(REDIRECT_URI).authorize(url, OWNER, act);
  return { back, checks: { pkceCodeVerifier, expectedState } };
}

async function authorizationCode(kind) {
  const config = configs[kind];
  const { back, checks } = await authorize(config);
  const first = await client.authorizationCodeGrant(config, back, checks);
  expectToken(first, { scope: SCOPE, refreshable: true });
  expect(first.expiresIn() > 0, 'the token has expired already');
  await callApi(config, first, `authorization code with PKCE, ${kind}`);
  const token = await client.refreshTokenGrant(config, first.refresh_token);
  expectToken(token, { scope: SCOPE, refreshable: true });
  await callApi(config, token, `refresh, ${kind}`);
  return token;
}

async function confidentialClient() {
  await authorizationCode('basic');
  const token = await authorizationCode('post');
  expect((await client.tokenIntrospection(configs.post, token.access_token)).active === true, 'the token is not active');
  ok('introspection');
  await client.tokenRevocation(configs.post, token.refresh_token);
  const error = await refused(() => client.refreshTokenGrant(configs.post, token.refresh_token), 'a revoked refresh token');
  expect(error.error === 'invalid_grant', `a revoked refresh token gave ${error.error ?? error}`);
  ok('revocation');
}

async function publicClient() {
  await authorizationCode('public');
}

async function deniedByUser() {
  const { back, checks } = await authorize(configs.post, 'deny');
  const error = await refused(() => client.authorizationCodeGrant(configs.post, back, checks), 'a denied request');
  expect(error.error === 'access_denied', `after Deny: ${error.error ?? error} ${back}`);
  ok('denied by the user');
}

// What is once allowed is not asked again: the denial comes first.
await run([discovery, clientCredentials, deniedByUser, confidentialClient, publicClient]);
