// Asks jose about every sample, as check.py asks PyJWT: what it says must be what samples.json has under `library`, in its own words.
// Prints a line for each provider.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

import { load } from '../clients/steps.mjs';

const { importJWK, jwtVerify, decodeProtectedHeader } = await load('jose');

const HERE = dirname(fileURLToPath(import.meta.url));
const ALGORITHMS = ['RS256', 'ES256'];
const read = (...path) => JSON.parse(readFileSync(join(HERE, ...path), 'utf8'));

/** What PyJWT says, by the code of jose's error and the claim that it names. */
const ERRORS = {
  ERR_JWS_INVALID: () => 'DecodeError',
  ERR_JOSE_ALG_NOT_ALLOWED: () => 'InvalidAlgorithmError',
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: () => 'InvalidSignatureError',
  ERR_JWT_EXPIRED: () => 'ExpiredSignatureError',
  ERR_JWT_CLAIM_VALIDATION_FAILED: ({ claim, reason }) => {
    if (reason === 'missing') return 'MissingRequiredClaimError';
    return { aud: 'InvalidAudienceError', iss: 'InvalidIssuerError' }[claim];
  },
};

/** `ok` and the claims, or the name of the error. */
async function said(token, keys, issuer, audience) {
  const choose = ({ kid, alg }) => {
    const key = keys.find((one) => kid === undefined || one.kid === kid);
    if (!key) throw new Error('no such key');
    return importJWK(key, alg);
  };
  const options = { algorithms: ALGORITHMS, issuer, requiredClaims: ['exp', 'iss'], ...(audience ? { audience } : {}) };
  try {
    return ['ok', (await jwtVerify(token, choose, options)).payload];
  } catch (error) {
    return [ERRORS[error.code]?.(error) ?? error.message];
  }
}

const folders = readdirSync(HERE).filter((name) => existsSync(join(HERE, name, 'samples.json')));
const wrong = [];
for (const folder of folders.sort()) {
  const { issuer, audience, samples } = read(folder, 'samples.json');
  const { keys } = read(folder, 'keys.json');
  for (const sample of samples) {
    const name = `${folder} ${sample.name}`;
    const [answer, claims] = await said(sample.token, keys, issuer, audience);
    // jose looks at the algorithm before it looks for the key.
    const wanted = sample.fault?.startsWith('algorithm') ? 'InvalidAlgorithmError' : sample.library;
    if (answer !== wanted) wrong.push(`${name}: jose says ${answer}, wanted ${wanted}`);
    if (answer === 'ok' && !isDeepStrictEqual(claims, sample.claims)) wrong.push(`${name}: other claims: ${JSON.stringify(claims)}`);
    if (sample.header && !isDeepStrictEqual(decodeProtectedHeader(sample.token), sample.header)) wrong.push(`${name}: another header`);
  }
  console.log(`ok ${folder}: ${samples.length} samples`);
}
if (wrong.length) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
