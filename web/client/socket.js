/**
 * A WebSocket whose messages are taken one after another, however long one takes: a candidate must not overtake the
 * answer it belongs to.
 *
 * @param {string} url
 * @param {string[]} protocols subprotocols to offer
 * @param {{
 *   onOpen: () => void,
 *   onMessage: (message: string) => Promise<void>,
 *   onUnusable: (error: Error) => void,
 *   onClose: () => void,
 * }} reports `onUnusable` is told what `onMessage` throws. What arrived before the end still counts, above all the error
 *   that explains it: `onClose` comes after it
 * @returns {WebSocket|null} null if that is no address of a WebSocket
 */
export function openSocket(url, protocols, { onOpen, onMessage, onUnusable, onClose }) {
  let socket;
  try {
    socket = new WebSocket(url, protocols);
  } catch {
    return null;
  }
  let inOrder = Promise.resolve();
  socket.onopen = onOpen;
  socket.onmessage = ({ data }) => (inOrder = inOrder.then(() => onMessage(data)).catch(onUnusable));
  socket.onclose = () => inOrder.then(onClose);
  return socket;
}
