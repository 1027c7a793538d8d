// The resource owner's browser: follows an authorization URL through login and consent to the client's redirect URI.
//
// It reads pages the way a browser without JavaScript does: plain forms, one pressed button, cookies, redirects by GET. The last
// redirect, to the client, is returned and not requested.

import { expect } from './steps.mjs';

const MOST_PAGES = 12;
const NAMED = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };

function decode(text) {
  return text.replace(/&(?:#x([0-9a-f]+)|#([0-9]+)|([a-z]+));/gi, (all, hex, decimal, name) => {
    if (hex || decimal) return String.fromCodePoint(parseInt(hex ?? decimal, hex ? 16 : 10));
    return NAMED[name] ?? all;
  });
}

/** Tags in order, with their attributes, and the text before each; comments, styles and scripts are skipped. */
function* tags(html) {
  const skipped = html.replace(/<!--[^]*?-->|<!doctype[^>]*>/gi, '').replace(/<(style|script)\b[^]*?<\/\1\s*>/gi, '');
  const tag = /([^<]*)<(\/?)([a-z][a-z0-9-]*)((?:\s+[^\s"'>/=]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'>]+))?)*)\s*\/?>|([^<]+|<)/gi;
  for (const [, before, end, name, attributes, rest] of skipped.matchAll(tag)) {
    if (rest !== undefined) {
      yield { text: rest };
      continue;
    }
    const values = {};
    const attribute = /([^\s"'>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/g;
    for (const [, key, double, single, bare] of attributes.matchAll(attribute)) {
      values[key.toLowerCase()] ??= decode(double ?? single ?? bare ?? '');
    }
    yield { text: before, name: name.toLowerCase(), end: end !== '', attributes: values };
  }
}

/** The forms, the title and the text of a page. */
export class Page {
  forms = [];
  title = '';
  text = '';

  constructor(html) {
    let form;
    let inTitle = false;
    for (const { text, name, end, attributes } of tags(html)) {
      if (inTitle) this.title += decode(text);
      else if (text.trim()) this.text += `${decode(text).trim()} `;
      if (!name) continue;
      if (name === 'title') inTitle = !end;
      if (name === 'form') {
        form = end ? undefined : { action: attributes.action ?? '', method: (attributes.method ?? 'get').toLowerCase(),
          enctype: (attributes.enctype ?? 'application/x-www-form-urlencoded').toLowerCase(), fields: [], buttons: [] };
        if (form) this.forms.push(form);
      } else if (form && !end && attributes.disabled === undefined) {
        Page.#control(form, name, attributes);
      }
    }
  }

  static #control(form, tag, attributes) {
    const type = (attributes.type ?? (tag === 'button' ? 'submit' : 'text')).toLowerCase();
    const name = attributes.name ?? '';
    if ((tag === 'button' || tag === 'input') && type === 'submit') {
      form.buttons.push([name, attributes.value ?? '']);
    } else if (tag === 'input' && name && !['button', 'reset', 'image', 'file'].includes(type)) {
      const box = type === 'checkbox' || type === 'radio';
      if (!box) form.fields.push([name, attributes.value ?? '']);
      else if (attributes.checked !== undefined) form.fields.push([name, attributes.value ?? 'on']);
    }
  }

  /** The form that has the button `act`, if there is one. */
  form(act) {
    return this.forms.find((form) => form.buttons.some(([name, value]) => name === 'act' && value === act));
  }

  toString() {
    return `'${this.title.trim()}': '${this.text.slice(0, 300)}'`;
  }
}

/** Cookies of one host, by name: host-only, with path and expiry. */
class Cookies {
  #kept = new Map();

  take(url, headers) {
    for (const line of headers.getSetCookie()) {
      const [pair, ...rest] = line.split(';').map((part) => part.trim());
      const equals = pair.indexOf('=');
      const [name, value] = [pair.slice(0, equals), pair.slice(equals + 1)];
      const attributes = Object.fromEntries(rest.map((part) => {
        const [key, ...words] = part.split('=');
        return [key.toLowerCase(), words.join('=')];
      }));
      expect(attributes.secure === undefined || url.protocol === 'https:', `the Secure cookie ${name} never comes back over http`);
      expect(attributes.domain === undefined, `the cookie ${name} is for a whole domain: ${attributes.domain}`);
      const age = attributes['max-age'] ?? (Date.parse(attributes.expires) - Date.now());
      const path = attributes.path?.startsWith('/') ? attributes.path : url.pathname.replace(/\/[^/]*$/, '') || '/';
      if (Number(age) <= 0) this.#kept.delete(name);
      else this.#kept.set(name, { value, path });
    }
  }

  header(url) {
    const fits = (path) => url.pathname === path || url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
    return [...this.#kept].filter(([, { path }]) => fits(path)).map(([name, { value }]) => `${name}=${value}`).join('; ');
  }
}

/** One browser with its cookies. */
export class Browser {
  #cookies = new Cookies();
  #redirectUri;

  constructor(redirectUri) {
    this.#redirectUri = redirectUri;
  }

  /** Requests a page and follows redirects: `{ back }` at the client's redirect URI, else `{ page, url }`. */
  async follow(method, url, body, origin) {
    const home = url.origin;
    for (let count = 0; count < MOST_PAGES; count += 1) {
      const headers = { accept: 'text/html,application/xhtml+xml;q=0.9', 'user-agent': 'browser without JavaScript' };
      const cookie = this.#cookies.header(url);
      if (cookie) headers.cookie = cookie;
      if (method === 'POST') headers.origin = origin;
      const answer = await fetch(url, { method, headers, body, redirect: 'manual', signal: AbortSignal.timeout(30_000) });
      this.#cookies.take(url, answer.headers);
      if ([301, 302, 303, 307, 308].includes(answer.status)) {
        expect(method === 'GET' || answer.status < 304, `${answer.status} would post the password again`);
        await answer.body?.cancel();
        const location = answer.headers.get('location');
        expect(location !== null, `${answer.status} without Location from ${url}`);
        url = new URL(location, url);
        [method, body] = ['GET', undefined];
        if (url.href.split(/[?#]/)[0] === new URL(this.#redirectUri).href.split('?')[0]) return { back: url };
        expect(url.origin === home, `redirected to another host: ${url}`);
        continue;
      }
      const type = answer.headers.get('content-type') ?? '';
      const text = await answer.text();
      expect(type.startsWith('text/html'), `${answer.status} '${type}' from ${url}, wanted a page: ${text.slice(0, 300)}`);
      const page = new Page(text);
      page.status = answer.status;
      page.private = answer.headers.get('referrer-policy') === 'no-referrer';
      return { page, url };
    }
    throw new Error(`more than ${MOST_PAGES} redirects, last to ${url}`);
  }

  /** Submits the form that has the button `act`. */
  press({ page, url }, act, typed = {}) {
    const form = page.form(act);
    expect(form, `no button act=${act} on ${page}`);
    expect(form.method === 'post', `the form with act=${act} has the method ${form.method}`);
    expect(form.enctype === 'application/x-www-form-urlencoded', `the form has the enctype ${form.enctype}`);
    const names = form.fields.map(([name]) => name);
    for (const name of Object.keys(typed)) expect(names.includes(name), `the form has no field ${name}, only ${names}`);
    const data = new URLSearchParams([...form.fields.map(([name, value]) => [name, typed[name] ?? value]), ['act', act]]);
    const target = new URL(form.action || url.href, url);
    expect(target.origin === url.origin, `the form goes to another host: ${target}`);
    // What Chromium sends: a page with Referrer-Policy: no-referrer hides its origin even from itself.
    return this.follow('POST', target, data, page.private ? 'null' : url.origin);
  }

  /** Logs in where asked, presses Allow or Deny, and gives the URL that the client is called back with. */
  async authorize(url, { username, password }, act = 'allow') {
    let at = await this.follow('GET', new URL(url));
    if (at.page?.form('login')) {
      at = await this.press(at, 'login', { username, password });
      expect(!at.page?.form('login'), `the login was refused: ${at.page}`);
    }
    if (at.page) {
      expect(at.page.form(act), `neither login nor consent, but ${at.page.status} ${at.page}`);
      at = await this.press(at, act);
    }
    expect(at.back, `wanted the redirect to the client, got ${at.page?.status} ${at.page}`);
    return at.back;
  }
}
