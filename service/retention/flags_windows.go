package retention

const nonblock = 0
