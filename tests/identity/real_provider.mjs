// A real identity provider (npm oidc-provider, OpenID certified) for test_real_provider.py.
// Usage: node real_provider.mjs <folder with node_modules> <port>
import { createRequire } from 'node:module';
import { generateKeyPairSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [folder, port] = process.argv.slice(2);
const found = createRequire(`${folder}/`).resolve('oidc-provider');
const { default: Provider } = await import(pathToFileURL(found));

const key = (name, type, options, alg) => {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid: name, use: 'sig', alg };
};
const client = (id, auth) => ({
  client_id: id,
  client_secret: `${id}-secret-of-the-test`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: auth,
});
const scope = 'tams-api/read tams-api/write';
const formats = {
  'urn:tams:jwt': { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } },
  'urn:tams:ec': { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } },
  'urn:tams:opaque': { accessTokenFormat: 'opaque' },
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client('robot', 'client_secret_post'), client('tams', 'client_secret_basic')],
  scopes: scope.split(' '),
  jwks: {
    keys: [
      key('rsa', 'rsa', { modulusLength: 2048 }, 'RS256'),
      key('ec', 'ec', { namedCurve: 'P-256' }, 'ES256'),
    ],
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, audience) => ({ audience, scope, accessTokenTTL: 300, ...formats[audience] }),
    },
  },
  interactions: { url: () => '/' },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
