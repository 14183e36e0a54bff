// SPDX-License-Identifier: MIT
//
// The benchmark's server on Node. README.md tells the wire protocol.
// Called as: node --expose-gc server_node.js certificate key
'use strict';

const fs = require('fs');
const tls = require('tls');

const [certificate, key] = process.argv.slice(2);
const block = Buffer.alloc(16384, 'b');

// As the documentation of streams has it: write until told to stop, go on at "drain".
function bulk(socket, left) {
  let more = true;
  while (left > 0 && more) {
    more = socket.write(block);
    left -= 1;
  }
  if (left > 0) socket.once('drain', () => bulk(socket, left));
}

function serve(socket) {
  let echoes = false;
  socket.on('data', (data) => {
    if (echoes) {
      if (!socket.write(data)) {
        socket.pause();
        socket.once('drain', () => socket.resume());
      }
    } else if (data[0] === 0x47) { // G
      global.gc();
      global.gc();
      socket.write('g');
    } else if (data[0] === 0x42) { // B
      bulk(socket, parseInt(data.toString('latin1', 1), 10));
    } else {
      echoes = true;
      socket.write(data);
    }
  });
  socket.on('error', () => socket.destroy());
}

const server = tls.createServer({
  cert: fs.readFileSync(certificate),
  key: fs.readFileSync(key),
  minVersion: 'TLSv1.2',
  honorCipherOrder: true,
  noDelay: true,
}, serve);

server.on('tlsClientError', () => {});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  process.stdout.write(`${server.address().port}\n`);
});
