"""A bookshop with its callers: what is raised, what travels, what is caught and what is logged.

stock, books.json    the books, and the plain Python exceptions of who keeps them
orders               the rules of ordering
errors               the shop's error catalogue, and how exceptions become errors
service, aio_service the same servicer in grpc's two worlds
server               a process that serves it
demo                 the caller: `python -m examples.bookshop.demo`
scenes, players      what act one plays, and how it plays it
storm, moods         act two: two callers, and a shop that is flaky, down and well again
importing, delivery  act three: a batch of 5,000 books, some of them bad; stockroom: where they come in
screen, timeline     how the acts are shown
"""
