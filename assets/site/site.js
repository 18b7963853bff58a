// The site's only script. Data arrives by <script> from data/, because a page of file:// may not fetch; text is only ever set as text.
'use strict';
(function () {
  var main = document.getElementById('main'), box = document.getElementById('search');
  var meta = null, rows = [], shards = {}, buckets = {}, waiting = {}, turn = 0;

  function load(name) {
    if (!waiting[name]) waiting[name] = new Promise(function (done, failed) {
      var script = document.createElement('script');
      script.src = 'data/' + name + '.js';
      script.onload = function () { done(true); };
      script.onerror = function () { done(false); };
      document.head.appendChild(script);
    });
    return waiting[name];
  }

  window.monosem = {
    meta: function (m) { meta = m; },
    list: function (part) { part.rows.forEach(function (row, i) { rows[part.from + i] = row; }); },
    features: function (shard) { Object.keys(shard.features).forEach(function (id) { shards[id] = { texts: shard.texts, feature: shard.features[id] }; }); },
    words: function (part) { buckets[part.bucket] = part.words; }
  };

  function el(name, attributes, children) {
    var node = document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { node.setAttribute(key, attributes[key]); });
    [].concat(children === undefined ? [] : children).forEach(function (child) {
      node.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
    });
    return node;
  }
  function show(nodes) { main.textContent = ''; nodes.forEach(function (n) { main.appendChild(n); }); }
  function number(x) { return x === 0 ? '0' : Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5 ? x.toExponential(2) : Number(x.toPrecision(3)).toString(); }
  function percent(x) { return (100 * x).toFixed(x && x < 0.001 ? 4 : 2) + ' %'; }
  function address(state) {
    return '#' + Object.keys(state).filter(function (k) { return state[k] !== '' && state[k] !== undefined; })
      .map(function (k) { return k + '=' + encodeURIComponent(state[k]); }).join('&');
  }
  function asked() {
    var state = {};
    location.hash.slice(1).split('&').forEach(function (pair) {
      var at = pair.indexOf('=');
      if (at > 0) try { state[pair.slice(0, at)] = decodeURIComponent(pair.slice(at + 1)); } catch (e) { /* no text of ours */ }
    });
    return state;
  }

  // As `words` and `bucket` of the program that wrote the data.
  function words(text) {
    var found = text.toLowerCase().match(/[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u{20000}-\u{3ffff}]|(?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u{20000}-\u{3ffff}])[\p{Alphabetic}\p{N}])+/gu);
    return found || [];
  }
  function bucket(word) {
    var chars = Array.from(word).map(function (c) { return c.codePointAt(0); });
    return ((chars[0] || 0) * 31 + (chars[1] || 0)) % meta.n_buckets;
  }

  // Features that have every word; the last word may go on. 3 for a label, 2 for a firing token, 1 for a context.
  function search(text) {
    var wanted = words(text);
    return Promise.all(wanted.map(function (w) { return load('words-' + bucket(w)); })).then(function () {
      var scores = null;
      wanted.forEach(function (word, i) {
        var of = {}, known = buckets[bucket(word)] || {};
        var matching = i + 1 < wanted.length || Array.from(word).length < 2 ? (Object.hasOwn(known, word) ? [word] : []) : Object.keys(known).filter(function (k) { return k.startsWith(word); });
        matching.forEach(function (k) {
          known[k].forEach(function (steps, place) {
            var id = 0;
            steps.forEach(function (step) { id += step; of[id] = Math.max(of[id] || 0, 3 - place); });
          });
        });
        if (scores === null) scores = of;
        else Object.keys(scores).forEach(function (id) { if (of[id]) scores[id] = Math.min(scores[id], of[id]); else delete scores[id]; });
      });
      scores = scores || {};
      if (/^\d+$/.test(text.trim()) && Number(text) < meta.n_units) scores[Number(text)] = 4;
      return scores;
    });
  }

  var orders = {
    number: ['by number', function (a, b) { return a[0] - b[0]; }],
    dense: ['most frequent first', function (a, b) { return b[1] - a[1] || a[0] - b[0]; }],
    rare: ['rarest first', function (a, b) { return a[1] - b[1] || a[0] - b[0]; }],
    max: ['largest maximum first', function (a, b) { return b[2] - a[2] || a[0] - b[0]; }]
  };

  function choose(label, name, options, state) {
    var select = el('select', { 'aria-label': label }, options.map(function (o) {
      var option = el('option', { value: o[0] }, o[1]);
      option.selected = (state[name] || options[0][0]) === o[0];
      return option;
    }));
    select.addEventListener('change', function () {
      var next = Object.assign({}, state, { page: '' });
      next[name] = select.value === options[0][0] ? '' : select.value;
      location.hash = address(next);
    });
    return select;
  }

  function list(state) {
    var mine = ++turn, parts = [];
    for (var i = 0; i * meta.per_list < meta.n_units; i++) parts.push(load('list-' + i));
    Promise.all(parts.concat([state.q ? search(state.q) : null])).then(function (all) {
      if (mine !== turn) return;
      var scores = all[all.length - 1];
      var found = rows.filter(function (r) {
        if (scores && !scores[r[0]]) return false;
        if (state.flag === 'labelled') return r[4].length > 0;
        if (state.flag === 'alive') return r[3].indexOf('dead') < 0;
        return !state.flag || r[3].indexOf(state.flag) >= 0;
      });
      var order = (orders[state.sort] || orders.number)[1];
      found.sort(scores && !state.sort ? function (a, b) { return scores[b[0]] - scores[a[0]] || a[0] - b[0]; } : order);
      var per = 50, n = Math.max(1, Math.ceil(found.length / per)), page = Math.min(n, Math.max(1, Number(state.page) || 1));
      var body = found.slice((page - 1) * per, page * per).map(function (r) {
        var name = r[4].length ? r[4].join(' · ') : r[5] ? r[5][0] + ', F1 ' + r[5][1].toFixed(2) : '';
        return el('tr', {}, [
          el('td', { class: 'n' }, el('a', { href: address({ f: r[0] }) }, r[0])),
          el('td', { dir: 'auto' }, name),
          el('td', {}, r[6].map(function (t) { return el('code', {}, t); })),
          el('td', { class: 'n' }, percent(r[1])), el('td', { class: 'n' }, number(r[2])),
          el('td', {}, r[3].map(function (f) { return el('span', { class: 'flag' }, f); }))
        ]);
      });
      var head = el('tr', {}, ['number', 'label or concept', 'top tokens', 'density', 'max', 'flags'].map(function (h, i) {
        return el('th', { scope: 'col', class: i === 0 || i === 3 || i === 4 ? 'n' : '' }, h);
      }));
      var filters = [['', 'all'], ['alive', 'alive'], ['labelled', 'labelled']].concat(meta.flags.map(function (f) { return [f, f]; }));
      var pages = el('nav', { class: 'pages', 'aria-label': 'Pages' }, []);
      if (page > 1) pages.appendChild(el('a', { rel: 'prev', href: address(Object.assign({}, state, { page: page - 1 })) }, '← before'));
      pages.appendChild(el('span', {}, 'page ' + page + ' of ' + n));
      if (page < n) pages.appendChild(el('a', { rel: 'next', href: address(Object.assign({}, state, { page: page + 1 })) }, 'next →'));
      show([
        el('div', { class: 'tools' }, [
          choose('Show', 'flag', filters, state),
          choose('Order', 'sort', Object.keys(orders).map(function (k) { return [k, orders[k][0]]; }), state),
          el('span', { class: 'quiet' }, found.length + ' of ' + meta.n_units)
        ]),
        el('table', {}, [el('thead', {}, head), el('tbody', {}, body)]), pages
      ]);
    });
  }

  function pairs(title, head, items) {
    return el('section', {}, [el('h2', {}, title), el('table', {}, items.map(function (item) {
      return el('tr', {}, [el('td', {}, el('code', {}, item[0]))].concat(item.slice(1).map(function (x) { return el('td', { class: 'n' }, x); })));
    }))]);
  }

  function context(c, texts, max) {
    var acts = {};
    for (var i = 0; i < c[7].length; i += 2) acts[c[7][i]] = c[7][i + 1];
    var spans = c[6].map(function (place, i) {
      var span = el('span', { class: 't' + (i === c[3] ? ' fires' : '') + (i < c[4] || i >= c[5] ? ' out' : '') }, texts[place]);
      if (acts[i]) {
        span.style.setProperty('--a', Math.min(1, acts[i] / max));
        span.title = number(acts[i]);
      }
      return span;
    });
    return el('div', { class: 'context' }, [el('span', { class: 'n', title: 'token ' + c[1] + ', document ' + c[2] }, number(c[0])), el('div', { dir: 'auto' }, spans)]);
  }

  function feature(id) {
    var mine = ++turn;
    Promise.all([load('feature-' + Math.floor(id / meta.per_shard)), load('list-' + Math.floor(id / meta.per_list))]).then(function () {
      if (mine !== turn) return;
      var shard = shards[id], row = rows[id];
      if (!shard || !row) return show([el('p', {}, 'There is no ' + meta.kind + ' ' + id + '.')]);
      var f = shard.feature, nodes = [];
      document.title = meta.kind + ' ' + id;
      var links = [];
      if (id > 0) links.push(el('a', { rel: 'prev', href: address({ f: id - 1 }) }, '← ' + (id - 1)));
      if (id + 1 < meta.n_units) links.push(el('a', { rel: 'next', href: address({ f: id + 1 }) }, (id + 1) + ' →'));
      nodes.push(el('nav', { class: 'pages', 'aria-label': 'Neighbours' }, links));
      nodes.push(el('h1', { dir: 'auto' }, meta.kind + ' ' + id + (row[4].length ? ': ' + row[4].join(' · ') : '')));
      nodes.push(el('p', {}, row[3].map(function (x) { return el('span', { class: 'flag' }, x); }).concat([
        'fires on ' + percent(row[1]) + ' of tokens (' + f.n + '), max ' + number(row[2]) + ', mean ' + number(f.mean) + ', ' + number(f.effective) + ' effective tokens'
      ])));
      f.labels.forEach(function (l) { nodes.push(el('p', { class: 'quiet', dir: 'auto' }, '“' + l.text + '” ' + l.author + ', ' + l.time)); });
      var most = Math.max.apply(null, f.histogram.counts.concat([1]));
      nodes.push(el('div', { class: 'columns' }, [
        pairs('Fires on', [], f.tokens.map(function (t) { return [t[0], t[1], percent(t[2])]; })),
        pairs('Makes likelier', [], f.up.map(function (t) { return [t[0], number(t[1])]; })),
        pairs('Makes less likely', [], f.down.map(function (t) { return [t[0], number(t[1])]; })),
        el('section', {}, [el('h2', {}, 'Activations'), el('table', {}, f.histogram.counts.map(function (n, i) {
          var bar = el('div', { class: 'bar' });
          bar.style.width = (100 * n / most) + '%';
          return el('tr', {}, [el('td', { class: 'n' }, number(f.histogram.edges[i])), el('td', { width: '60%' }, bar), el('td', { class: 'n' }, n)]);
        }))])
      ]));
      f.groups.forEach(function (g) {
        nodes.push(el('section', {}, [el('h2', {}, g.name + ' (of ' + g.n + ')')].concat(g.contexts.map(function (c) { return context(c, shard.texts, row[2] || 1); }))));
      });
      show(nodes);
    });
  }

  function route() {
    var state = asked();
    if (document.activeElement !== box) box.value = state.q || '';
    if (/^\d+$/.test(state.f || '')) { window.scrollTo(0, 0); feature(Number(state.f)); }
    else { document.title = meta.model + ' ' + meta.name; list(state); }
  }

  var pause;
  box.addEventListener('input', function () {
    clearTimeout(pause);
    pause = setTimeout(function () { location.replace(address(Object.assign(asked(), { q: box.value.trim(), page: '', f: '' })) || '#'); }, 80);
  });
  document.addEventListener('keydown', function (e) {
    if (e.target === box || e.ctrlKey || e.metaKey || e.altKey) return;
    var link = e.key === 'ArrowLeft' ? 'a[rel=prev]' : e.key === 'ArrowRight' ? 'a[rel=next]' : '';
    if (e.key === '/') { e.preventDefault(); box.focus(); box.select(); }
    else if (link && document.querySelector(link)) document.querySelector(link).click();
  });

  load('meta').then(function (there) {
    if (!there || !meta) return show([el('p', {}, 'data/meta.js is missing: this folder is not whole.')]);
    document.getElementById('about').textContent = meta.n_units + ' ' + meta.kind + 's of ' + meta.model + ' at ' + meta.hook + ', ' + meta.n_tokens + ' tokens of ' + meta.dataset;
    document.getElementById('home').textContent = meta.model + ' / ' + meta.name;
    window.addEventListener('hashchange', route);
    route();
  });
})();
