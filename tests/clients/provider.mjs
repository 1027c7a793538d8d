// An OpenID provider, certified and unmodified (oidc-provider), with its own sign-in pages: whoever signs in as NAME has the
// subject NAME. Gives opaque tokens to the client `machine`, and tells about them. Serves on PORT until standard input ends.

import Provider from 'oidc-provider';

const { PORT, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI } = process.env;
const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  clients: [{
    client_id: CLIENT_ID,
    client_secret: CLIENT_SECRET,
    redirect_uris: [REDIRECT_URI],
    id_token_signed_response_alg: 'RS256',
    application_type: 'web',
  }, {
    client_id: 'machine',
    client_secret: CLIENT_SECRET,
    redirect_uris: [],
    response_types: [],
    grant_types: ['client_credentials'],
    scope: 'table_read',
  }],
  scopes: ['openid', 'table_read'],
  features: { clientCredentials: { enabled: true }, introspection: { enabled: true }, revocation: { enabled: true } },
  pkce: { required: () => true },
});
const server = provider.listen(Number(PORT), '127.0.0.1', () => console.log('ok listening'));
process.stdin.resume().on('end', () => server.close(() => process.exit(0)));
