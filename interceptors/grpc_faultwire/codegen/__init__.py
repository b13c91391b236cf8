"""Typed Python modules from error catalogues: the protoc plugin ``protoc-gen-faultwire``.

contract    what a set of .proto files declares: catalogues, reasons, methods, with comments and lines
module      the text of the module for one file
expression  Python expressions, laid out as formatters do
plugin      protoc's end of it
"""
