# Checks what leaves the objects of the kernel levels. Each is compiled with its own instruction set, so an inline
# function that leaked from one could be taken by the linker for the whole program and crash older CPUs, and code that
# runs at start would run on every CPU.
#
# cmake -D OBJECTS=a.o|b.o -D NM=nm -D OBJDUMP=objdump -P symbols.cmake
foreach(tool NM OBJDUMP)
  if(NOT ${tool})
    message(STATUS "skipped: no ${tool} here")
    return()
  endif()
endforeach()

# Lines of a tool's output as a list.
function(read_lines out)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE text RESULT_VARIABLE code ERROR_VARIABLE error)
  if(code)
    message(FATAL_ERROR "${ARGN} failed: ${error}")
  endif()
  string(REGEX REPLACE "[][;]" "_" text "${text}")  # these mean something in a list
  string(REPLACE "\n" ";" text "${text}")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

string(REPLACE "|" ";" objects "${OBJECTS}")
set(checked 0)
set(failed 0)
foreach(object IN LISTS objects)
  if(NOT object MATCHES "kernels/([a-z0-9_]+)\\.cpp\\.o(bj)?$")
    continue()
  endif()
  set(level ${CMAKE_MATCH_1})
  math(EXPR checked "${checked} + 1")

  read_lines(symbols ${NM} -C --defined-only ${object})
  set(leaving "")
  foreach(symbol IN LISTS symbols)
    if(symbol MATCHES "^[0-9a-f]+ ([A-Zuvw]) (.+)$")  # capitals are global; u, v and w are weak
      list(APPEND leaving "${CMAKE_MATCH_1} ${CMAKE_MATCH_2}")
    endif()
  endforeach()
  if(NOT leaving MATCHES "^[RDS] bothways::${level}::kernels$")
    message(SEND_ERROR "${level}: only its table may leave the object, not: ${leaving}")
    math(EXPR failed "${failed} + 1")
  endif()

  read_lines(sections ${OBJDUMP} -h ${object})
  if(sections MATCHES "\\.init_array|\\.ctors|__mod_init_func")
    message(SEND_ERROR "${level}: code of this level runs at start, on every CPU (${CMAKE_MATCH_0})")
    math(EXPR failed "${failed} + 1")
  endif()
endforeach()
if(checked EQUAL 0)
  message(FATAL_ERROR "no objects of levels among: ${objects}")
endif()
message(STATUS "${checked} levels checked, ${failed} failures")
