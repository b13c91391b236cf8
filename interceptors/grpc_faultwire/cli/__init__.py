"""The command ``faultwire``.

main        the entry point                      parser     commands, options, examples
decode      a trailer from a log, explained      trailers   finds it in any text; report, audit: what is told of it
lint        contract rules; rules: what they are sources    where catalogues come from
catalogue   pages; markdown, html: their text    explain    codes, reasons and categories
call        one RPC; reflection: its types       connection what call and top have in common
top         a server's diagnostics, live         board      what it shows; live: drawn; watching, keyboard
completion, protos, manual
terminal    colours, trees, exit codes
"""
